//! x
#![allow(clippy::unwrap_used, reason = "tests")]
use report::*;
fn s(x: &str) -> String {
    x.to_owned()
}
#[test]
fn gallery() {
    let mut page = Page::new("g");
    let t = |n: &str| {
        Table::new(n, "Losses over the plane through the pretrained, the midtrained and the fine-tuned parameters")
            .with(Column::count("a", [1]))
    };
    // plane
    let xs: Vec<f64> = (0..17).map(|i| -2.0 + i as f64 * 0.75).collect();
    let ys: Vec<f64> = (0..15).map(|i| -2.0 + i as f64 * 0.7).collect();
    let g = |f: &dyn Fn(f64, f64) -> Option<f64>| -> Vec<Vec<Option<f64>>> {
        ys.iter().map(|y| xs.iter().map(|x| f(*x, *y)).collect()).collect()
    };
    let fields = vec![
        Field {
            title: s("Loss on held-out C4"),
            measure: s("nats per token"),
            values: g(&|x, y| {
                Some(3.1 + 0.02 * ((x - 1.0).powi(2) + (y - 1.0).powi(2)) + 0.002 * (x * x * x).abs().exp().min(50.0))
            }),
            diverging: false,
        },
        Field {
            title: s("Loss on Pycode"),
            measure: s("nats per token"),
            values: g(&|x, y| {
                (x < 9.0 || y < 6.0)
                    .then(|| 2.2 + 0.05 * ((x - 7.0).powi(2) * 0.6 + (y - 5.0).powi(2)) + 0.3 * (x * 1.3).sin() * 0.3)
            }),
            diverging: false,
        },
        Field {
            title: s("Cosine of the gradients on C4 and on Pycode, at every point of the plane's grid measured"),
            measure: s("cosine"),
            values: g(&|x, y| Some((0.4 * x).sin() * (0.5 * y).cos())),
            diverging: true,
        },
    ];
    let ways = vec![
        Way {
            name: s("directly fine-tuned"),
            colour: None,
            points: vec![(0.0, 0.0), (1.0, 1.4), (2.0, 2.6), (3.2, 3.8), (4.1, 4.6)],
            stops: vec![(0.0, 0.0, s("pretrained")), (4.1, 4.6, s("direct"))],
            dashed: true,
        },
        Way {
            name: s("midtrained, then fine-tuned"),
            colour: None,
            points: vec![(0.0, 0.0), (2.0, 0.1), (4.5, 0.2), (7.0, 0.0), (7.2, 1.5), (7.5, 3.0), (8.0, 4.4)],
            stops: vec![
                (0.0, 0.0, s("pretrained")),
                (7.0, 0.0, s("midtrained")),
                (8.0, 4.4, s("fine-tuned after midtraining")),
            ],
            dashed: false,
        },
        Way {
            name: s("control"),
            colour: Some(3),
            points: vec![(0.0, 0.0), (0.1, 2.0), (-1.5, 7.0)],
            stops: vec![(-1.5, 7.0, s("control end"))],
            dashed: false,
        },
    ];
    let p = Plane {
        x_axis: s("along midtraining, length in parameters"),
        y_axis: s("across it, towards the fine-tuned parameters"),
        x: xs.clone(),
        y: ys.clone(),
        fields: fields.clone(),
        ways: ways.clone(),
        across: 3,
    };
    page.figures.push(Figure::new(t("plane3"), p.clone()));
    page.figures.push(Figure::new(t("plane1"), Plane { fields: vec![fields[1].clone()], ..p.clone() }));
    let strip = Plane {
        x: (0..17).map(|i| i as f64 * 2.0).collect(),
        y: (0..15).map(|i| i as f64 * 0.2).collect(),
        ways: vec![Way {
            name: s("w"),
            colour: None,
            points: vec![(0.0, 0.0), (32.0, 2.8)],
            stops: vec![(0.0, 0.0, s("θ0")), (32.0, 2.8, s("θ1"))],
            dashed: false,
        }],
        fields: vec![fields[0].clone()],
        ..p
    };
    page.figures.push(Figure::new(t("strip"), strip));
    // lines
    let x: Vec<f64> = (0..9).map(|i| i as f64 * 30.0).collect();
    let curve = |a: f64, b: f64| x.iter().map(|k| a + b * (-k / 60.0).exp()).collect::<Vec<f64>>();
    let band = |c: &[f64]| Some(c.iter().map(|v| (v - 0.06, v + 0.08)).collect::<Vec<_>>());
    let (a, b, mut c) = (curve(2.2, 0.9), curve(2.4, 0.7), curve(2.3, 0.5));
    let mut cb = band(&c);
    cb.as_mut().unwrap()[5] = (f64::NAN, 1.0);
    c[4] = f64::NAN;
    c[6] = f64::NAN;
    let mk = |title: &str, y: Option<&str>, sc: f64| Curves {
        title: s(title),
        y_axis: y.map(s),
        x: x.iter().map(|v| v * sc).collect(),
        ys: vec![a.clone(), b.clone(), c.clone()],
        bands: vec![band(&a), None, cb.clone()],
        points: true,
    };
    let mut acc = mk(
        "Accuracy on SciQ while fine-tuning, questions of the test split",
        Some("accuracy of the answers to the questions of the split, %"),
        0.0525,
    );
    acc.ys.iter_mut().flatten().for_each(|v| *v = *v * 20.0);
    acc.bands.clear();
    acc.points = false;
    let l = Lines {
        x_axis: s("step of fine-tuning"),
        y_axis: s("nats per token"),
        names: vec![s("directly fine-tuned"), s("midtrained on Starcoder (20%)"), s("control")],
        scaled_to: 3,
        from_zero: false,
        own_scales: true,
        panels: vec![mk("Pycode", None, 1.0), acc, mk("small fractions", None, 0.00125)],
        across: 3,
    };
    page.figures.push(Figure::new(t("losses"), l.clone()));
    page.figures.push(Figure::new(t("losses0"), Lines { from_zero: true, own_scales: false, ..l }));
    // scatter
    let e = |v: f64| Estimate { value: v, interval: Some((v - 0.04, v + 0.05)) };
    let sp = |title: &str, x: &str, k: f64| ScatterPanel {
        title: s(title),
        x_axis: s(x),
        dots: (0..14)
            .map(|i| {
                let v = (i as f64 * 1.7).sin();
                Dot {
                    x: e(v * k),
                    y: e(v * 1.5 + (i as f64).cos() * 0.4),
                    colour: i % 4,
                    shape: i % 5,
                    pale: v.abs() < 0.4,
                }
            })
            .collect(),
    };
    let sc = |panels: Vec<ScatterPanel>, across| Scatter {
        panels,
        across,
        y_axis: s("improvement over C4 in fine-tuned loss, %"),
        colours: (s("fine-tuning set"), ["Pycode", "GSM8K", "LIMA", "SciQ"].map(s).to_vec()),
        shapes: (
            s("midtraining mix"),
            ["Starcoder (20%)", "Math (12%)", "FLAN (5%)", "KnowledgeQA (20%)", "DCLM (20%)"].map(s).to_vec(),
        ),
    };
    let long = "proximity advantage of the mix towards the set, every side at 2000000 tokens";
    page.figures.push(Figure::new(
        t("scatter2"),
        sc(
            vec![
                sp("70M parameters", long, 1.0),
                sp("160M parameters", long, 0.6),
                sp("410M parameters", "gradient cosine", 0.05),
            ],
            2,
        ),
    ));
    page.figures.push(Figure::new(t("scatter1"), sc(vec![sp("", long, 1.0)], 1)));
    // heat
    let h = |title: &str, marks| Heatmap {
        title: s(title),
        row_axis: s("midtraining mix"),
        column_axis: s("share of general text"),
        rows: ["C4", "Starcoder (20%)", "Math (12%)"].map(s).to_vec(),
        columns: ["0 %", "25 %", "50 %", "75 %"].map(s).to_vec(),
        values: (0..3)
            .map(|r| (0..4).map(|c| (r != 1 || c != 2).then_some(2.5 + 0.3 * r as f64 - 0.17 * c as f64)).collect())
            .collect(),
        marks,
    };
    page.figures.push(Figure::new(
        t("heat"),
        Heatmaps {
            panels: vec![h("Pycode", vec![(0, 3), (2, 0), (1, 1)]), h("C4", vec![(2, 0)])],
            across: 2,
            scale: (2.0, 3.1),
            measure: s("nats per token"),
            decimals: 4,
            reversed: true,
        },
    ));
    page.write(std::path::Path::new("/tmp/pictures")).unwrap();
}
