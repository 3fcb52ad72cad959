//! A measured slice through a space, such as one of parameters: fields as colours and contours, and ways over them.

use plotters::prelude::*;
use plotters::style::colors::colormaps::{ColorMap, ViridisRGB};

use super::canvas::{
    Area, AxisNames, CENTRE, Draw, Drawn, FONT, GREY, INK, LEFT, NORMAL, NOTHING, SMALL, drawable, ink_on, legend,
    number, shortened, span, text, tick, upright, widest, wrapped,
};
use super::grid::{Grid, quantile};
use super::ways::{Way, draw_line, draw_ways};

/// What was measured at the points of a plane's grid.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// What the panel shows.
    pub title: String,
    /// What the colours measure.
    pub measure: String,
    /// A row for each y of the plane, upwards, with a value for each x, where there is one.
    pub values: Vec<Vec<Option<f64>>>,
    /// Whether colours tell the sign, as of cosines; otherwise the highest tenth of the values, of which a few may be very
    /// high, has one colour.
    pub diverging: bool,
}

/// Fields over one plane, both axes in one unit of length, and ways through it.
#[derive(Debug, Clone, PartialEq)]
pub struct Plane {
    /// What is to the right.
    pub x_axis: String,
    /// What is up.
    pub y_axis: String,
    /// Where the grid's columns are, to the right.
    pub x: Vec<f64>,
    /// Where the grid's rows are, upwards.
    pub y: Vec<f64>,
    /// The fields, a panel each.
    pub fields: Vec<Field>,
    /// The ways, on every panel.
    pub ways: Vec<Way>,
    /// Panels beside each other.
    pub across: usize,
}

/// Sides of a plot: the shorter one as a rule, the longer one's least and most, and any side's least.
const SHORTER: f64 = 340.0;
const LONGER: (f64, f64) = (420.0, 520.0);
const LEAST: f64 = 200.0;
/// Around a plot.
const LEFT_OF: u32 = 74;
const BELOW: u32 = 58;
/// From a plot to its scale, and the scale's width.
const GAP: i32 = 14;
const BAR: i32 = 16;
/// A dot of colour.
const DOT: i32 = 4;
/// How many shades are tried, until so many rectangles do.
const SHADES: [usize; 5] = [40, 32, 24, 18, 12];
const RECTANGLES: usize = 1800;

/// What a plot shows of the plane, and its size in pixels.
struct Frame {
    x: (f64, f64),
    y: (f64, f64),
    size: (u32, u32),
}

impl Plane {
    fn across(&self) -> usize {
        self.across.clamp(1, self.fields.len().max(1))
    }

    fn down(&self) -> usize {
        self.fields.len().div_ceil(self.across()).max(1)
    }

    /// The grid and the ways, with as many pixels for a unit to the right as upwards.
    fn frame(&self) -> Frame {
        let ways = |of: fn((f64, f64)) -> f64| self.ways.iter().flat_map(Way::places).map(of);
        let x = span(self.x.iter().copied().chain(ways(|at| at.0)), 0.0);
        let y = span(self.y.iter().copied().chain(ways(|at| at.1)), 0.0);
        let (wide, high) = (x.1 - x.0, y.1 - y.0);
        let longer = (SHORTER * (wide / high).max(high / wide)).clamp(LONGER.0, LONGER.1);
        let unit = wide.max(high) / longer;
        // A narrow strip has room beside it.
        let roomy = |(low, high): (f64, f64)| {
            let missing = (LEAST * unit - (high - low)).max(0.0) / 2.0;
            (low - missing, high + missing)
        };
        let (x, y) = (roomy(x), roomy(y));
        let pixels = |(low, high): (f64, f64)| ((high - low) / unit).round() as u32;
        Frame { x, y, size: (pixels(x), pixels(y)) }
    }

    fn grid<'a>(&'a self, field: &'a Field) -> Grid<'a> {
        Grid { x: &self.x, y: &self.y, values: &field.values }
    }

    /// Room to the right of a plot: its scale, the numbers beside it, and what it measures.
    fn right_of(&self) -> u32 {
        let numbers = self.fields.iter().map(|f| Scale::of(self.grid(f), f.diverging).widest());
        (GAP + BAR) as u32 + 10 + numbers.max().unwrap_or(0) + 36
    }

    fn names(&self, frame: &Frame) -> AxisNames {
        AxisNames::new((&self.x_axis, &self.y_axis), SMALL, frame.size)
    }

    /// Lines of the panels' titles, and the room above plots.
    fn above(&self, panel: u32) -> u32 {
        let lines = self.fields.iter().map(|f| wrapped(&f.title, NORMAL, panel - 30).len()).max();
        16 + 20 * lines.unwrap_or(0) as u32
    }

    /// Width and height of a panel with all around its plot.
    fn panel(&self, frame: &Frame) -> (u32, u32) {
        let (below, beside) = self.names(frame).more();
        let wide = LEFT_OF + beside + frame.size.0 + self.right_of();
        (wide, self.above(wide) + frame.size.1 + BELOW + below)
    }

    fn legend(&self, wide: u32) -> (Vec<(i32, i32)>, u32) {
        if self.ways.is_empty() { (Vec::new(), 0) } else { legend(self.ways.iter().map(|w| &w.name), wide) }
    }

    /// That it is a plane: its grid rises, every field has a value or a gap for each point, and ways go somewhere.
    fn check(&self) -> Result<(), String> {
        rising("x", &self.x)?;
        rising("y", &self.y)?;
        for field in &self.fields {
            let (title, rows) = (&field.title, field.values.len());
            let expected = self.y.len();
            if rows != expected {
                return Err(format!("field \"{title}\" has {rows} rows of values, but the plane has {expected} y"));
            }
            let odd = field.values.iter().enumerate().find(|(_, row)| row.len() != self.x.len());
            if let Some((i, row)) = odd {
                let (row, columns) = (row.len(), self.x.len());
                return Err(format!("row {i} of field \"{title}\" has {row} values, but the plane has {columns} x"));
            }
        }
        let lost = |way: &&Way| way.places().any(|(x, y)| !drawable(x) || !drawable(y));
        match self.ways.iter().find(lost) {
            Some(way) => Err(format!("way \"{}\" has a point that is not finite", way.name)),
            None => Ok(()),
        }
    }
}

/// That numbers of a grid's side are at least two, and rise.
fn rising(name: &str, numbers: &[f64]) -> Result<(), String> {
    if numbers.len() < 2 {
        return Err(format!("a plane needs two {name} or more, not {}", numbers.len()));
    }
    let rises = numbers.windows(2).all(|pair| pair[0] < pair[1]);
    if rises && numbers.iter().all(|v| drawable(*v)) {
        Ok(())
    } else {
        Err(format!("the plane's {name} must be finite numbers that rise"))
    }
}

impl Draw for Plane {
    fn size(&self) -> (u32, u32) {
        let (wide, high) = self.panel(&self.frame());
        let all = wide * self.across() as u32;
        (all, self.legend(all).1 + high * self.down() as u32)
    }

    fn draw(&self, area: &Area<'_>) -> Drawn {
        self.check()?;
        let frame = self.frame();
        let (wide, high) = self.panel(&frame);
        let (places, head) = self.legend(wide * self.across() as u32);
        for (i, (way, (x, y))) in self.ways.iter().zip(places).enumerate() {
            draw_line(area, &[(x, y), (x + 24, y)], way.dashed, way.ink(i))?;
            text(area, &way.name, SMALL, &INK, LEFT, (x + 30, y))?;
        }
        for (i, field) in self.fields.iter().enumerate() {
            let (column, row) = (i % self.across(), i / self.across());
            let (x, y) = ((wide as usize * column) as i32, (head as usize + high as usize * row) as i32);
            let panel = area.clone().shrink((x, y), (wide, high));
            self.draw_panel(field, &frame, &panel)?;
        }
        Ok(())
    }
}

impl Plane {
    fn draw_panel(&self, field: &Field, frame: &Frame, area: &Area<'_>) -> Drawn {
        let (wide, _) = self.panel(frame);
        let names = self.names(frame);
        let (below, beside) = names.more();
        let left = LEFT_OF + beside;
        for (i, line) in wrapped(&field.title, NORMAL, wide - 30).iter().enumerate() {
            text(area, line, NORMAL, &INK, LEFT, (left as i32, 12 + 20 * i as i32))?;
        }
        let mut chart = ChartBuilder::on(area)
            .margin_top(self.above(wide))
            .margin_right(self.right_of())
            .x_label_area_size(BELOW + below)
            .y_label_area_size(left)
            .build_cartesian_2d(frame.x.0..frame.x.1, frame.y.0..frame.y.1)?;
        let (x0, y0) = area.get_base_pixel();
        let ends = [(frame.x.0, frame.y.1), (frame.x.1, frame.y.0)].map(|at| chart.backend_coord(&at));
        let corners = ends.map(|(x, y)| (x - x0, y - y0));
        let scale = Scale::of(self.grid(field), field.diverging);
        let painter = Painter { grid: self.grid(field), scale: &scale, frame, corners };
        painter.draw(area)?;
        chart
            .configure_mesh()
            .disable_mesh()
            .x_labels(8)
            .y_labels(8)
            .axis_style(GREY)
            .x_label_formatter(&|v| tick(*v, frame.x.1 - frame.x.0))
            .y_label_formatter(&|v| tick(*v, frame.y.1 - frame.y.0))
            .label_style((FONT, SMALL).into_font().color(&INK))
            .draw()?;
        names.draw(area, corners, (16, 36))?;
        area.draw(&Rectangle::new(corners, GREY.stroke_width(1)))?;
        draw_ways(area, &self.ways, corners, |at| painter.pixel(at))?;
        let [(_, top), (right, bottom)] = corners;
        scale.draw(area, (right + GAP, top), (bottom - top, &field.measure))
    }
}

/// The colours of a field.
struct Scale {
    low: f64,
    high: f64,
    /// Whether there are values above.
    clipped: bool,
    diverging: bool,
    /// Where contours are.
    levels: Vec<f64>,
}

impl Scale {
    fn of(grid: Grid<'_>, diverging: bool) -> Self {
        let sorted = grid.sorted();
        let (least, most) = (sorted.first().copied().unwrap_or(0.0), sorted.last().copied().unwrap_or(0.0));
        if diverging {
            let end = least.abs().max(most.abs());
            let levels = (-3..=3).map(|i| f64::from(i) * end / 4.0).collect();
            return Self { low: -end, high: end, clipped: false, diverging, levels };
        }
        let mut levels: Vec<f64> = (1..=8).filter_map(|i| quantile(&sorted, f64::from(i) / 9.0)).collect();
        levels.dedup();
        // Where nearly all values are equal, the others matter.
        let high = quantile(&sorted, 0.9).filter(|high| *high > least).unwrap_or(most);
        Self { low: least, high, clipped: most > high, diverging, levels }
    }

    /// From 0 to 1.
    fn place(&self, value: f64) -> f64 {
        if self.high > self.low { ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0) } else { 0.5 }
    }

    fn colour(&self, place: f64) -> RGBColor {
        if self.diverging { either_side(place) } else { ViridisRGB.get_color(place) }
    }

    /// The numbers beside it, from above, with their places.
    fn ticks(&self) -> Vec<(f64, String)> {
        let span = self.high - self.low;
        if span <= 0.0 {
            return vec![(0.5, number(self.low, 3))];
        }
        let words = |place: f64| tick(self.low + place * span, span / 4.0);
        let mut ticks: Vec<(f64, String)> = [1.0, 0.75, 0.5, 0.25, 0.0].map(|place| (place, words(place))).to_vec();
        if let Some(first) = ticks.first_mut().filter(|_| self.clipped) {
            first.1.insert_str(0, "≥ ");
        }
        ticks
    }

    fn widest(&self) -> u32 {
        widest(self.ticks().iter().map(|(_, words)| words), SMALL)
    }

    fn draw(&self, area: &Area<'_>, (x, y): (i32, i32), (height, measure): (i32, &str)) -> Drawn {
        for step in (0..height).step_by(2) {
            let fill = self.colour(1.0 - f64::from(step) / f64::from(height));
            let end = (step + 2).min(height);
            area.draw(&Rectangle::new([(x, y + step), (x + BAR, y + end)], fill.filled()))?;
        }
        let down = |place: f64| y + ((1.0 - place) * f64::from(height)).round() as i32;
        for level in self.levels.iter().filter(|level| **level > self.low && **level < self.high) {
            let (place, y) = (self.place(*level), down(self.place(*level)));
            area.draw(&PathElement::new(vec![(x, y), (x + BAR, y)], ink_on(self.colour(place))))?;
        }
        for (place, words) in self.ticks() {
            text(area, &words, SMALL, &INK, LEFT, (x + BAR + 8, down(place)))?;
        }
        let words = shortened(measure, SMALL, height.max(0) as u32);
        upright(area, &words, SMALL, CENTRE, (x + BAR + 20 + self.widest() as i32, y + height / 2))
    }
}

/// From blue over white, in the middle, to red: as bright at both ends.
fn either_side(place: f64) -> RGBColor {
    let (end, far) = if place < 0.5 { ((20, 80, 160), 1.0 - 2.0 * place) } else { ((178, 48, 32), 2.0 * place - 1.0) };
    let mixed = |end: u8| (247.0 + (f64::from(end) - 247.0) * far).round() as u8;
    RGBColor(mixed(end.0), mixed(end.1), mixed(end.2))
}

/// What draws a field on a plot.
struct Painter<'a> {
    grid: Grid<'a>,
    scale: &'a Scale,
    frame: &'a Frame,
    corners: [(i32, i32); 2],
}

/// Dots of one shade beside each other, from one to before another.
type Run = (usize, usize, Option<usize>);

impl Painter<'_> {
    fn draw(&self, area: &Area<'_>) -> Drawn {
        let [(left, top), (right, bottom)] = self.corners;
        let places = self.places();
        let tried = SHADES.map(|shades| (shades, rectangles(&places, shades)));
        let [.., last] = &tried;
        let (shades, rectangles) = tried.iter().find(|(_, r)| r.len() <= RECTANGLES).unwrap_or(last);
        area.draw(&Rectangle::new(self.corners, NOTHING.filled()))?;
        for ((from, to, shade), above, below) in rectangles {
            let Some(shade) = shade else { continue };
            let fill = self.scale.colour((*shade as f64 + 0.5) / *shades as f64);
            let edge = |start: i32, dots: usize, end: i32| (start + DOT * dots as i32).min(end);
            let corners = [
                (edge(left, *from, right), edge(top, *above, bottom)),
                (edge(left, *to, right), edge(top, *below, bottom)),
            ];
            area.draw(&Rectangle::new(corners, fill.filled()))?;
        }
        for level in &self.scale.levels {
            let ink = ink_on(self.scale.colour(self.scale.place(*level))).mix(0.7);
            for line in self.grid.contours(*level) {
                let line: Vec<(i32, i32)> = line.into_iter().map(|at| self.pixel(at)).collect();
                area.draw(&PathElement::new(line, ink.stroke_width(1)))?;
            }
        }
        Ok(())
    }

    /// Where each dot lies on the scale, from above.
    fn places(&self) -> Vec<Vec<Option<f64>>> {
        let [(left, top), (right, bottom)] = self.corners;
        let (wide, high) = (right - left, bottom - top);
        let Frame { x, y, .. } = self.frame;
        let part = |dot: i32, of: i32| (f64::from(DOT * dot) + f64::from(DOT) / 2.0).min(f64::from(of)) / f64::from(of);
        let dots = |of: i32| 0..(of + DOT - 1) / DOT;
        let place = |column: i32, row: i32| {
            let at = (x.0 + part(column, wide) * (x.1 - x.0), y.1 - part(row, high) * (y.1 - y.0));
            self.grid.at(at.0, at.1).map(|value| self.scale.place(value))
        };
        dots(high).map(|row| dots(wide).map(|column| place(column, row)).collect()).collect()
    }

    fn pixel(&self, (x, y): (f64, f64)) -> (i32, i32) {
        let ([(left, top), (right, bottom)], frame) = (self.corners, self.frame);
        let part =
            |at: f64, (low, high): (f64, f64), of: i32| ((at - low) / (high - low) * f64::from(of)).round() as i32;
        (left + part(x, frame.x, right - left), bottom - part(y, frame.y, bottom - top))
    }
}

/// Dots of one shade in as few rectangles as are easily found: runs, each with its first row and the one after its last.
fn rectangles(places: &[Vec<Option<f64>>], shades: usize) -> Vec<(Run, usize, usize)> {
    let shade = |place: &Option<f64>| place.map(|p| ((p * shades as f64) as usize).min(shades - 1));
    let (mut done, mut open) = (Vec::new(), Vec::<(Run, usize)>::new());
    for (row, places) in places.iter().enumerate() {
        let runs = runs(&places.iter().map(shade).collect::<Vec<_>>());
        let (kept, ended): (Vec<_>, Vec<_>) = open.into_iter().partition(|(run, _)| runs.contains(run));
        done.extend(ended.into_iter().map(|(run, above)| (run, above, row)));
        let since = |run: &Run| kept.iter().find(|(other, _)| other == run).map_or(row, |(_, above)| *above);
        open = runs.iter().map(|run| (*run, since(run))).collect();
    }
    done.extend(open.into_iter().map(|(run, above)| (run, above, places.len())));
    done
}

fn runs(shades: &[Option<usize>]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (i, shade) in shades.iter().enumerate() {
        match runs.last_mut() {
            Some((_, to, last)) if last == shade => *to = i + 1,
            _ => runs.push((i, i + 1, *shade)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plane(x: Vec<f64>, y: Vec<f64>) -> Plane {
        let (x_axis, y_axis) = (String::new(), String::new());
        Plane { x_axis, y_axis, x, y, fields: Vec::new(), ways: Vec::new(), across: 1 }
    }

    #[test]
    fn a_unit_is_as_long_to_the_right_as_upwards() {
        for (wide, high) in [(1.0, 1.0), (3.0, 2.0), (1.0, 40.0), (1e-6, 1e3)] {
            let frame = plane(vec![0.0, wide], vec![0.0, high]).frame();
            let (across, up) = (frame.x.1 - frame.x.0, frame.y.1 - frame.y.0);
            let units = (f64::from(frame.size.0) / across, f64::from(frame.size.1) / up);
            assert!((units.0 / units.1 - 1.0).abs() < 0.01, "{wide} × {high}: {units:?}");
            assert!(across >= wide && up >= high);
            assert!((200..=520).contains(&frame.size.0) && (200..=520).contains(&frame.size.1), "{:?}", frame.size);
        }
    }

    #[test]
    fn a_few_high_values_do_not_take_the_scale() {
        let mut values: Vec<Vec<Option<f64>>> = vec![(0..100).map(|i| Some(f64::from(i) / 100.0)).collect()];
        values[0][99] = Some(1e9);
        let scale = Scale::of(Grid { x: &[], y: &[], values: &values }, false);
        assert!(scale.high < 1.0 && scale.ticks()[0].1.starts_with("≥ 0.89"), "{:?}", scale.ticks());
        assert_eq!(scale.levels.len(), 8);
        let scale = Scale::of(Grid { x: &[], y: &[], values: &[vec![Some(-0.2), Some(0.5), None]] }, true);
        assert_eq!((scale.low, scale.high, scale.clipped), (-0.5, 0.5, false));
        assert!(scale.levels.contains(&0.0));
    }

    #[test]
    fn rectangles_cover_every_dot_once() {
        let place = |x: usize, y: usize| (x + y != 9).then_some(((x / 3 + y / 4) % 5) as f64 / 5.0);
        let places: Vec<Vec<Option<f64>>> = (0..11).map(|y| (0..13).map(|x| place(x, y)).collect()).collect();
        let mut shown = vec![vec![0; 13]; 11];
        let found = rectangles(&places, 5);
        for ((from, to, _), above, below) in &found {
            shown[*above..*below].iter_mut().for_each(|row| row[*from..*to].iter_mut().for_each(|n| *n += 1));
        }
        assert!(shown.iter().flatten().all(|n| *n == 1));
        assert!(found.len() < 13 * 11 / 2);
    }
}
