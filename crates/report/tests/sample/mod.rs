//! A page with every kind of table and figure; also used by tests/html.

use report::{
    BarPanel, Bars, Column, Curves, Dot, Estimate, Field, Figure, Format, Heatmap, Heatmaps, Lines, Page, Plane,
    Scatter, ScatterPanel, Table, Way,
};

/// Words that break careless writers.
pub(crate) const NASTY: [&str; 6] = ["a|b", "<script>alert(1)</script>", "\"q\" & 'r'", "new\nline", "naïve, 数学", ""];

fn estimate(value: f64) -> Estimate {
    Estimate { value, interval: Some((value - 0.04, value + 0.03)) }
}

pub(crate) fn table(name: &str, words: &[&str], values: &[Option<f64>]) -> Table {
    Table::new(name, "Losses <after> fine-tuning & more, in nats per token of the held-out text of every set")
        .with(Column::text("set", words.iter().copied()))
        .with(Column::text("mix", (0..words.len()).map(|i| format!("mix {i}"))))
        .with(
            Column::number("loss", Format::Fixed(3), values.iter().copied())
                .marked(values.iter().map(|v| v.is_some_and(|v| v < 0.0)))
                .meaning("the mean over seeds"),
        )
        .with(Column::interval("ci", Format::Signed(3), values.iter().map(|v| v.map(|v| (v - 1.0, v + 1.0)))))
        .with(Column::number("p", Format::Probability, values.iter().map(|v| v.map(|v| v.abs() * 1e-7))))
        .with(Column::count("tokens", values.iter().map(|v| v.map(|_| 12u64))).file_only())
        .grouped()
        .note("A note <b>.")
}

/// A page with every kind of table and figure.
pub(crate) fn full(words: &[&str]) -> Page {
    let values: Vec<Option<f64>> = (0..words.len()).map(|i| (i % 3 != 1).then_some(i as f64 * 0.35 - 0.8)).collect();
    let mut page = Page::new("Table 2 <&>");
    page.asked = "Does midtraining help fine-tuning on what it resembles, and what does it cost?".to_owned();
    page.found.push("Starcoder lowers the loss on Pycode by 0.12 nats (95 % interval 0.09 to 0.15).".to_owned());
    page.tables.push(table("table2", words, &values));
    let names: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
    let groups = |shift: f64| {
        let bars = |i: usize| vec![Some(estimate(0.1 * i as f64 - shift)), (i != 1).then(|| estimate(-0.05))];
        names.iter().cloned().enumerate().map(|(i, n)| (n, bars(i))).collect()
    };
    let panel = |title: &str, shift| BarPanel { title: title.to_owned(), groups: groups(shift) };
    let bars = Bars {
        axis: "nats per token".to_owned(),
        series: vec!["loss on the fine-tuning set".to_owned(), "loss on held-out C4".to_owned()],
        panels: vec![panel("Pycode", 0.2), panel("GSM8K", 0.1), panel("LIMA", 0.3)],
    };
    let at = |i: usize| (estimate(0.1 * i as f64), estimate(0.3 - 0.07 * i as f64));
    let dot = |i: usize| Dot { x: at(i).0, y: at(i).1, colour: i, shape: i, pale: i == 6 };
    let alone = ScatterPanel {
        title: String::new(),
        x_axis: "proximity advantage".to_owned(),
        dots: (0..8).map(dot).collect(),
    };
    let scatter = Scatter {
        panels: vec![alone],
        across: 1,
        y_axis: "improvement, %".to_owned(),
        colours: ("fine-tuning set".to_owned(), names.clone()),
        shapes: ("midtraining mix".to_owned(), names.clone()),
    };
    let curve = |slope: f64| (0..20).map(|k| slope * f64::from(k)).collect::<Vec<f64>>();
    let curves = |title: &str| Curves {
        title: title.to_owned(),
        y_axis: None,
        x: (0..20).map(f64::from).collect(),
        ys: vec![curve(0.01), curve(0.008), curve(0.5)],
        bands: Vec::new(),
        points: false,
    };
    let lines = Lines {
        x_axis: "step of fine-tuning".to_owned(),
        y_axis: "nats per token".to_owned(),
        names: ["measured", "first order", "bound (first order + L_P/2 times squared step)"]
            .map(str::to_owned)
            .to_vec(),
        scaled_to: 2,
        from_zero: true,
        own_scales: false,
        panels: vec![curves("C4, fine-tuned on Pycode"), curves("Starcoder (20%), fine-tuned on Pycode")],
        across: 3,
    };
    let cells =
        |i: usize| (0..names.len()).map(|j| (i != j).then(|| (i as f64 * 0.3 + j as f64 * 0.1).min(1.0))).collect();
    let heatmap = |title: &str| Heatmap {
        title: title.to_owned(),
        row_axis: "layers of base".to_owned(),
        column_axis: "layers of midtrained".to_owned(),
        rows: names.clone(),
        columns: names.clone(),
        values: (0..names.len()).map(cells).collect(),
        marks: vec![(0, 1)],
    };
    let heatmaps = Heatmaps {
        panels: vec![heatmap("base × midtrained"), heatmap("base × base + Pycode")],
        across: 2,
        scale: (0.0, 1.0),
        measure: "CKA".to_owned(),
        decimals: 2,
        reversed: false,
    };
    let height = |x: f64, y: f64| (x * y < 0.8).then_some(x * x + 2.0 * y * y);
    let axis = vec![-1.0, -0.5, 0.0, 0.5, 1.0];
    let field = |title: &str, diverging| Field {
        title: title.to_owned(),
        measure: "nats per token".to_owned(),
        values: axis.iter().map(|y| axis.iter().map(|x| height(*x, *y)).collect()).collect(),
        diverging,
    };
    let way = |(i, name): (usize, &String)| {
        let end = (0.9 - 0.3 * i as f64, 0.4);
        let stops = vec![(end.0, end.1, name.clone())];
        Way { name: name.clone(), colour: None, points: vec![(-0.8, -0.8), end], stops, dashed: i == 1 }
    };
    let plane = Plane {
        x_axis: "distance".to_owned(),
        y_axis: "distance".to_owned(),
        x: axis.clone(),
        y: axis.clone(),
        fields: vec![field("loss on C4", false), field("cosine", true)],
        ways: names.iter().enumerate().map(way).collect(),
        across: 2,
    };
    let data = |name: &str| table(name, words, &values);
    page.figures.push(
        Figure::new(data("bars"), bars)
            .subtitle(["lower is better; intervals are 95 % t-intervals over 5 seeds".to_owned()]),
    );
    page.figures.push(Figure::new(data("scatter"), scatter));
    page.figures.push(Figure::new(data("lines"), lines));
    page.figures.push(Figure::new(data("heatmaps"), heatmaps));
    page.figures.push(Figure::new(data("plane"), plane));
    page.notes.push("Losses < 1 & more.".to_owned());
    page.details.push(table("measurements", words, &values));
    page.attach("spec.toml", "The study", "name = \"<a>\"\n".to_owned());
    page
}
