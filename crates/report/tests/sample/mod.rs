//! A page with every kind of table and figure; also used by tests/html.

use report::{
    BarPanel, Bars, Column, Curves, Dot, Estimate, Figure, Format, Heatmap, Heatmaps, Lines, Page, Scatter, Table,
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
    let dot = |i: usize| Dot { x: estimate(0.1 * i as f64), y: estimate(0.3 - 0.07 * i as f64), colour: i, shape: i };
    let scatter = Scatter {
        x_axis: "proximity advantage".to_owned(),
        y_axis: "improvement, %".to_owned(),
        dots: (0..8).map(dot).collect(),
        colours: ("fine-tuning set".to_owned(), names.clone()),
        shapes: ("midtraining mix".to_owned(), names.clone()),
    };
    let curve = |slope: f64| (0..20).map(|k| slope * f64::from(k)).collect::<Vec<f64>>();
    let curves = |title: &str| Curves {
        title: title.to_owned(),
        x: (0..20).map(f64::from).collect(),
        ys: vec![curve(0.01), curve(0.008), curve(0.5)],
    };
    let lines = Lines {
        x_axis: "step of fine-tuning".to_owned(),
        y_axis: "nats per token".to_owned(),
        names: ["measured", "first order", "bound (first order + L_P/2 times squared step)"]
            .map(str::to_owned)
            .to_vec(),
        scaled_to: 2,
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
    };
    let heatmaps = Heatmaps {
        panels: vec![heatmap("base × midtrained"), heatmap("base × base + Pycode")],
        across: 2,
        scale: (0.0, 1.0),
        measure: "CKA".to_owned(),
    };
    let data = |name: &str| table(name, words, &values);
    page.figures.push(
        Figure::new(data("bars"), bars)
            .subtitle(["lower is better; intervals are 95 % t-intervals over 5 seeds".to_owned()]),
    );
    page.figures.push(Figure::new(data("scatter"), scatter));
    page.figures.push(Figure::new(data("lines"), lines));
    page.figures.push(Figure::new(data("heatmaps"), heatmaps));
    page.notes.push("Losses < 1 & more.".to_owned());
    page.details.push(table("measurements", words, &values));
    page.attach("spec.toml", "The study", "name = \"<a>\"\n".to_owned());
    page
}
