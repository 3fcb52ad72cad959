//! What pictures must show, and what they must not fail on.
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use report::{
    Column, Curves, Dot, Estimate, Field, Figure, Heatmap, Heatmaps, Lines, Picture, Plane, Scatter, ScatterPanel,
    Table, Way,
};

const NAN: f64 = f64::NAN;

fn drawn(picture: impl Into<Picture>) -> Result<String, String> {
    let data = Table::new("t", "A title").with(Column::count("a", [1]));
    Figure::new(data, picture).svg().map_err(|e| e.to_string())
}

/// The SVG, which has a place for everything that it shows.
fn svg(picture: impl Into<Picture>) -> String {
    let svg = drawn(picture).unwrap();
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    svg
}

/// Texts of the SVG, in their order.
fn words(svg: &str) -> Vec<&str> {
    svg.split("<text").skip(1).map(|t| t.split_once('>').unwrap().1.split('<').next().unwrap().trim()).collect()
}

/// The area of large rectangles that are neither white nor grey.
fn coloured(svg: &str) -> f64 {
    let size = |rect: &str, name: &str| -> f64 {
        rect.split(&format!(" {name}=\"")).nth(1).unwrap().split('"').next().unwrap().parse().unwrap()
    };
    let rects = svg.split("<rect").skip(1).map(|r| r.split('>').next().unwrap());
    let plain = ["#FFFFFF", "#E1E1E1", "fill=\"none\""];
    let large = rects.filter(|r| plain.iter().all(|p| !r.contains(p)));
    large.map(|r| size(r, "width") * size(r, "height")).filter(|area| *area > 1000.0).sum()
}

fn field(values: Vec<Vec<Option<f64>>>) -> Field {
    Field { title: "loss on C4".to_owned(), measure: "nats".to_owned(), values, diverging: false }
}

/// A plane with a field of 4 rows and 5 columns.
fn plane(of: fn(f64, f64) -> Option<f64>) -> Plane {
    let (x, y) = (vec![0.0, 1.0, 2.0, 3.0, 4.0], vec![0.0, 1.0, 2.0, 3.0]);
    let values = y.iter().map(|y| x.iter().map(|x| of(*x, *y)).collect()).collect();
    let stops = vec![(0.0, 0.0, "start".to_owned()), (4.0, 3.0, "midtrained".to_owned())];
    let points = vec![(0.0, 0.0), (2.0, 0.5), (4.0, 3.0)];
    let ways = vec![Way { name: "direct".to_owned(), colour: None, points, stops, dashed: false }];
    let axis = "distance".to_owned();
    Plane { x_axis: axis.clone(), y_axis: axis, x, y, fields: vec![field(values)], ways, across: 3 }
}

fn lines(panels: Vec<Curves>) -> Lines {
    Lines {
        x_axis: "tokens, billions".to_owned(),
        y_axis: "loss".to_owned(),
        names: vec!["direct".to_owned()],
        scaled_to: 1,
        from_zero: false,
        own_scales: true,
        panels,
        across: 2,
    }
}

fn curves(ys: &[f64]) -> Curves {
    Curves {
        title: "Pycode".to_owned(),
        y_axis: None,
        x: (0..ys.len()).map(|k| k as f64 / 4.0).collect(),
        ys: vec![ys.to_vec()],
        bands: Vec::new(),
        points: false,
    }
}

fn scatter(panels: Vec<ScatterPanel>) -> Scatter {
    let names = |what: &str| (what.to_owned(), vec!["one".to_owned(), "two".to_owned()]);
    Scatter { panels, across: 2, y_axis: "improvement".to_owned(), colours: names("set"), shapes: names("mix") }
}

fn panel(title: &str, x_axis: &str, dots: &[(f64, f64)]) -> ScatterPanel {
    let dot = |(x, y): &(f64, f64)| Dot { x: (*x).into(), y: (*y).into(), colour: 0, shape: 0, pale: false };
    ScatterPanel { title: title.to_owned(), x_axis: x_axis.to_owned(), dots: dots.iter().map(dot).collect() }
}

fn heatmaps(values: Vec<Vec<Option<f64>>>, marks: Vec<(usize, usize)>) -> Heatmaps {
    let names = |n: usize| (0..n).map(|i| format!("name {i}")).collect::<Vec<String>>();
    let heatmap = Heatmap {
        title: "losses".to_owned(),
        row_axis: "rows".to_owned(),
        column_axis: "columns".to_owned(),
        rows: names(2),
        columns: names(3),
        values,
        marks,
    };
    let (scale, measure) = ((0.0, 4.0), "nats".to_owned());
    Heatmaps { panels: vec![heatmap], across: 1, scale, measure, decimals: 3, reversed: true }
}

#[test]
fn a_plane_shows_contours_ways_and_words() {
    let svg = svg(plane(|x, y| Some(x + y * y)));
    let words = words(&svg);
    for expected in ["start", "midtrained", "direct", "loss on C4", "nats"] {
        assert_eq!(words.iter().filter(|w| **w == expected).count(), 1, "{expected}: {words:?}");
    }
    assert!(words.iter().any(|w| w.starts_with("≥ ")), "the highest tenth has one colour: {words:?}");
    // Ways are three pixels wide and their halo six, contours one.
    let lines = |wide: u32| svg.matches(&format!("stroke-width=\"{wide}\" points")).count();
    let level = plane(|_, _| Some(1.0));
    let flat = drawn(level).unwrap();
    assert_eq!((lines(3), lines(6)), (2, 2));
    assert!(lines(1) > flat.matches("stroke-width=\"1\" points").count() + 8, "contours, beside the marks of axes");
}

#[test]
fn a_plane_without_values_or_differences_is_drawn() {
    svg(plane(|_, _| Some(2.5)));
    svg(plane(|_, _| Some(0.0)));
    svg(Plane { fields: Vec::new(), ..plane(|_, _| None) });
    svg(Plane { ways: Vec::new(), across: 0, ..plane(|x, y| Some(x - y)) });
    // On a grey ground, each square without a hole in one colour: all three by four of them, a row less, none.
    let flat = |x: f64, _| if x == 4.0 { Some(NAN) } else { Some(1.0) };
    let share = |picture: Plane| coloured(&svg(picture)) / coloured(&svg(plane(|_, _| Some(1.0))));
    for (picture, expected) in [(plane(flat), 0.75), (plane(|_, _| None), 0.0)] {
        assert!(svg(picture.clone()).contains("#E1E1E1"));
        let share = share(picture);
        assert!((share - expected).abs() < 0.01, "{share}, not {expected}");
    }
    let mut signed = plane(|x, y| Some(x - y));
    signed.fields[0].diverging = true;
    assert!(svg(signed).contains("\u{2212}4.0"));
}

#[test]
fn a_plane_that_is_none_says_why() {
    let whole = || plane(|x, y| Some(x + y));
    let because = |change: fn(&mut Plane)| {
        let mut plane = whole();
        change(&mut plane);
        drawn(plane).unwrap_err()
    };
    type Case = (fn(&mut Plane), &'static str);
    let cases: [Case; 7] = [
        (|p| p.x.clear(), "two x or more, not 0"),
        (|p| p.y[1] = NAN, "y must be finite numbers that rise"),
        (|p| p.x.swap(0, 1), "x must be finite numbers that rise"),
        (|p| p.fields[0].values.truncate(3), "field \"loss on C4\" has 3 rows of values, but the plane has 4 y"),
        (|p| p.fields[0].values[2].truncate(1), "row 2 of field \"loss on C4\" has 1 values, but the plane has 5 x"),
        (|p| p.ways[0].points[0].0 = f64::INFINITY, "way \"direct\" has a point that is not finite"),
        (|p| p.ways[0].stops[0].1 = NAN, "way \"direct\" has a point that is not finite"),
    ];
    for (change, reason) in cases {
        let found = because(change);
        assert!(found.starts_with("figure t: ") && found.contains(reason), "{found}");
    }
}

#[test]
fn a_plane_of_many_points_stays_small() {
    let mut wavy = plane(|_, _| None);
    let axis: Vec<f64> = (0..41).map(|i| f64::from(i) / 10.0).collect();
    let wave = |x: f64, y: f64| Some((3.0 * x).sin() * (2.0 * y).cos() + (x - y) * (x - 2.0));
    let values: Vec<Vec<_>> = axis.iter().map(|y| axis.iter().map(|x| wave(*x, *y)).collect()).collect();
    (wavy.x, wavy.y) = (axis.clone(), axis);
    wavy.fields = vec![field(values.clone()), field(values.clone()), field(values)];
    let size = svg(wavy).len();
    assert!(size < 600_000, "{size}");
}

#[test]
fn a_hole_breaks_a_curve_and_a_band_goes_behind_it() {
    let polylines = |svg: &str| svg.matches("stroke-width=\"2\" points").count();
    let whole = svg(lines(vec![curves(&[3.0, 2.9, 2.8, 2.7])]));
    let broken = svg(lines(vec![curves(&[3.0, 2.9, NAN, 2.7, 2.6])]));
    assert_eq!(polylines(&broken), polylines(&whole) + 1);
    let mut banded = curves(&[3.0, NAN, 2.8]);
    banded.bands = vec![Some(vec![(2.9, 3.1), (NAN, NAN), (2.7, f64::INFINITY), (1.0, 2.0)])];
    assert!(!svg(lines(vec![banded.clone()])).contains("<polygon"), "one point is no band");
    banded.bands = vec![Some(vec![(2.9, 3.1), (2.8, 3.0), (2.7, NAN)])];
    banded.points = true;
    banded.y_axis = Some("accuracy".to_owned());
    let svg = svg(lines(vec![banded, curves(&[])]));
    assert_eq!(svg.matches("<polygon").count(), 1);
    assert_eq!(svg.matches("<circle").count(), 2, "a mark at each value");
    let words = words(&svg);
    assert!(words.contains(&"accuracy") && words.contains(&"loss"), "{words:?}");
}

#[test]
fn steps_are_told_with_the_decimals_that_they_need() {
    let last = |last: f64| {
        let mut curves = curves(&[3.0, 2.0]);
        curves.x = vec![0.0, last];
        svg(lines(vec![curves]))
    };
    for (end, expected) in [(240.0, "200"), (12.6, "10"), (0.3, "0.20")] {
        let svg = last(end);
        assert!(words(&svg).contains(&expected), "{end}: {:?}", words(&svg));
    }
}

#[test]
fn panels_of_points_share_their_upward_scale() {
    let near = [(0.1, 1.0), (0.2, -1.0)];
    let far = [(0.3, 7.5), (0.4, 1.0)];
    let places = |svg: &str| -> Vec<f64> {
        let circles = svg.split("<circle cx=").skip(1);
        circles.map(|c| c.split("cy=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap()).collect()
    };
    let svg = svg(scatter(vec![panel("near", "a", &near), panel("far", "b", &far)]));
    let places = places(&svg);
    assert_eq!(places[0], places[3], "1 is as high in both panels: {places:?}");
    assert!(places[2] < places[0]);
    assert!(words(&svg).contains(&"near") && words(&svg).contains(&"far"));
}

#[test]
fn pale_points_keep_their_shape_and_lose_their_colour() {
    let mut alone = panel("", "a", &[(0.1, 1.0), (0.2, 2.0)]);
    let before = svg(scatter(vec![alone.clone()]));
    alone.dots[0].pale = true;
    alone.dots[1].y = Estimate { value: 2.0, interval: Some((NAN, 3.0)) };
    let after = svg(scatter(vec![alone]));
    let circles = |svg: &str| svg.matches("<circle").count();
    assert_eq!(circles(&before), circles(&after));
    assert_eq!((before.matches("#ACACAC").count(), after.matches("#ACACAC").count()), (0, 1));
    svg(scatter(Vec::new()));
    svg(scatter(vec![panel("", "", &[]), panel("", "", &[(NAN, 1.0)])]));
}

#[test]
fn cells_hold_their_numbers_and_frames_stay_inside() {
    let values = vec![vec![Some(2.8714), Some(-0.00001), None], vec![Some(f64::INFINITY)]];
    let plain = svg(heatmaps(values.clone(), Vec::new()));
    assert!(words(&plain).contains(&"2.871") && words(&plain).contains(&"0.000"), "{:?}", words(&plain));
    assert_eq!(words(&plain).iter().filter(|w| **w == "–").count(), 4, "gaps of a ragged matrix");
    let outside = svg(heatmaps(values.clone(), vec![(2, 0), (0, 3), (usize::MAX, usize::MAX)]));
    assert_eq!(outside, plain);
    let marked = svg(heatmaps(values, vec![(0, 0), (9, 9)]));
    assert_eq!(marked.matches("<polyline").count(), plain.matches("<polyline").count() + 2);
    assert!(marked.contains("stroke=\"#1B1B1B\" stroke-width=\"3\""), "thick and dark");
}

#[test]
fn a_colour_scale_without_length_or_the_other_way_is_drawn() {
    let values = vec![vec![Some(1.0), Some(2.0), Some(3.0)]];
    for scale in [(2.0, 2.0), (4.0, 0.0), (NAN, 1.0)] {
        drawn(Heatmaps { scale, ..heatmaps(values.clone(), Vec::new()) }).unwrap();
    }
    let low_bright = svg(heatmaps(vec![vec![Some(0.0)]], Vec::new()));
    let low_dark = svg(Heatmaps { reversed: false, ..heatmaps(vec![vec![Some(0.0)]], Vec::new()) });
    let first = |svg: &str| svg.split("<rect").nth(2).unwrap().split("fill=\"").nth(1).unwrap()[..7].to_owned();
    assert_eq!((first(&low_bright).as_str(), first(&low_dark).as_str()), ("#FEE825", "#440154"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_numbers_break_a_picture(
        numbers in prop::collection::vec(prop::option::of(any::<f64>()), 20),
        zero in any::<bool>(),
    ) {
        let plain: Vec<f64> = numbers.iter().map(|v| v.unwrap_or(NAN)).collect();
        let mut curves = curves(&plain[..8]);
        curves.x = plain[8..16].to_vec();
        curves.bands = vec![Some(plain.chunks(2).map(|pair| (pair[0], pair[1])).collect())];
        drawn(Lines { from_zero: zero, ..lines(vec![curves]) }).unwrap();
        let mut points = panel("", "", &plain.chunks(2).map(|pair| (pair[0], pair[1])).collect::<Vec<_>>());
        points.dots[0].x.interval = Some((plain[3], plain[4]));
        drawn(scatter(vec![points])).unwrap();
        drawn(heatmaps(numbers.chunks(3).map(<[_]>::to_vec).collect(), Vec::new())).unwrap();
        let mut plane = plane(|_, _| None);
        plane.fields[0].values = numbers.chunks(5).map(<[_]>::to_vec).collect();
        plane.fields[0].diverging = zero;
        drawn(plane.clone()).unwrap();
        plane.x = plain[..5].to_vec();
        plane.x.sort_by(f64::total_cmp);
        plane.ways[0].points[0] = (plain[5], plain[6]);
        // Drawn or refused.
        let _ = drawn(plane);
    }
}
