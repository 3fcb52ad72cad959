//! Numbers at the points of a grid: what lies between them, and the lines of one level.

use std::collections::BTreeMap;

use super::canvas::drawable;

/// Numbers where each y and each x cross; both rise.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid<'a> {
    pub(super) x: &'a [f64],
    pub(super) y: &'a [f64],
    /// A row for each y, a value for each x.
    pub(super) values: &'a [Vec<Option<f64>>],
}

/// From the point of a row and a column to the next: up, or to the right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Edge {
    row: usize,
    column: usize,
    up: bool,
}

impl Edge {
    fn ends(self) -> [(usize, usize); 2] {
        let Self { row, column, up } = self;
        [(row, column), if up { (row + 1, column) } else { (row, column + 1) }]
    }
}

impl Grid<'_> {
    fn value(&self, (row, column): (usize, usize)) -> Option<f64> {
        self.values.get(row)?.get(column).copied()?.filter(|v| drawable(*v))
    }

    /// Every value, from the least.
    pub(super) fn sorted(&self) -> Vec<f64> {
        let mut values: Vec<f64> = self.values.iter().flatten().flatten().copied().filter(|v| drawable(*v)).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    /// Between four points, bilinearly; none where one of them has no value, or outside.
    pub(super) fn at(&self, x: f64, y: f64) -> Option<f64> {
        let (column, right) = between(self.x, x)?;
        let (row, up) = between(self.y, y)?;
        let along = |row| Some(mixed(self.value((row, column))?, self.value((row, column + 1))?, right));
        Some(mixed(along(row)?, along(row + 1)?, up))
    }

    /// Lines along which the values are of a level, by marching squares.
    pub(super) fn contours(&self, level: f64) -> Vec<Vec<(f64, f64)>> {
        let mut next: BTreeMap<Edge, Vec<Edge>> = BTreeMap::new();
        for row in 1..self.y.len() {
            for column in 1..self.x.len() {
                for (a, b) in self.crossed((row - 1, column - 1), level).unwrap_or_default() {
                    next.entry(a).or_default().push(b);
                    next.entry(b).or_default().push(a);
                }
            }
        }
        // Lines that end come first; what is left is closed.
        let ends: Vec<Edge> = next.iter().filter(|(_, to)| to.len() == 1).map(|(edge, _)| *edge).collect();
        let starts: Vec<Edge> = ends.into_iter().chain(next.keys().copied()).collect();
        let walks = starts.into_iter().map(|start| walk(&mut next, start));
        let lines = walks.filter(|line| line.len() > 1);
        lines.map(|line| line.into_iter().filter_map(|edge| self.crossing(edge, level)).collect()).collect()
    }

    /// Pairs of edges of a square between which a line of the level runs; none where a corner has no value.
    fn crossed(&self, (row, column): (usize, usize), level: f64) -> Option<Vec<(Edge, Edge)>> {
        let corners = [(row, column), (row, column + 1), (row + 1, column + 1), (row + 1, column)];
        let mut above = [false; 4];
        let mut sum = 0.0;
        for (above, corner) in above.iter_mut().zip(corners) {
            let value = self.value(corner)?;
            *above = value >= level;
            sum += value / 4.0;
        }
        let edge = |row, column, up| Edge { row, column, up };
        // In the order of the corners that they lead from, against the clock.
        let edges = [
            edge(row, column, false),
            edge(row, column + 1, true),
            edge(row + 1, column, false),
            edge(row, column, true),
        ];
        let crossed: Vec<Edge> = (0..4).filter(|i| above[*i] != above[(i + 1) % 4]).map(|i| edges[i]).collect();
        Some(match crossed[..] {
            [a, b] => vec![(a, b)],
            // A saddle: its middle tells which corners go together.
            [bottom, right, top, left] if (sum >= level) == above[0] => vec![(bottom, right), (top, left)],
            [bottom, right, top, left] => vec![(left, bottom), (right, top)],
            _ => Vec::new(),
        })
    }

    /// Where an edge has the level.
    fn crossing(&self, edge: Edge, level: f64) -> Option<(f64, f64)> {
        let [from, to] = edge.ends();
        let (a, b) = (self.value(from)?, self.value(to)?);
        let part = ((level - a) / (b - a)).clamp(0.0, 1.0);
        let place = |of: &[f64], from: usize, to: usize| Some(mixed(*of.get(from)?, *of.get(to)?, part));
        Some((place(self.x, from.1, to.1)?, place(self.y, from.0, to.0)?))
    }
}

/// From an edge on as far as it goes; what was walked is taken away.
fn walk(next: &mut BTreeMap<Edge, Vec<Edge>>, start: Edge) -> Vec<Edge> {
    let (mut line, mut at) = (vec![start], start);
    while let Some(to) = next.get_mut(&at).and_then(Vec::pop) {
        if let Some(back) = next.get_mut(&to) {
            let place = back.iter().position(|edge| *edge == at);
            place.map(|place| back.swap_remove(place));
        }
        line.push(to);
        at = to;
    }
    line
}

fn mixed(a: f64, b: f64, part: f64) -> f64 {
    a * (1.0 - part) + b * part
}

/// The place before a number among rising ones, and how far it is to the next.
fn between(rising: &[f64], at: f64) -> Option<(usize, f64)> {
    let (first, last) = (rising.first()?, rising.last()?);
    if rising.len() < 2 || !(*first..=*last).contains(&at) {
        return None;
    }
    let place = (rising.partition_point(|v| *v <= at) - 1).min(rising.len() - 2);
    Some((place, (at - rising[place]) / (rising[place + 1] - rising[place])))
}

/// The value below which a part of sorted ones lies.
pub(super) fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let place = part * (sorted.len().max(1) - 1) as f64;
    let (low, high) = (sorted.get(place.floor() as usize)?, sorted.get(place.ceil() as usize)?);
    Some(mixed(*low, *high, place.fract()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const AXIS: [f64; 5] = [-2.0, -1.0, 0.0, 1.0, 2.5];

    fn values(of: fn(f64, f64) -> f64) -> Vec<Vec<Option<f64>>> {
        AXIS.iter().map(|y| AXIS.iter().map(|x| Some(of(*x, *y))).collect()).collect()
    }

    fn grid(values: &[Vec<Option<f64>>]) -> Grid<'_> {
        Grid { x: &AXIS, y: &AXIS, values }
    }

    #[test]
    fn between_points_a_bilinear_function_is_itself() {
        let of = |x: f64, y: f64| 1.0 + 2.0 * x - y + 0.5 * x * y;
        let mut values = values(of);
        for (x, y) in [(-2.0, -2.0), (0.3, -0.7), (2.5, 2.5), (1.7, 2.0)] {
            assert!((grid(&values).at(x, y).unwrap() - of(x, y)).abs() < 1e-12);
        }
        values[4][4] = None;
        values[0][0] = Some(f64::NAN);
        values.truncate(5);
        for (x, y) in [(-1.5, -1.5), (2.0, 2.0), (9.0, 0.0), (f64::NAN, 0.0)] {
            assert_eq!(grid(&values).at(x, y), None);
        }
    }

    #[test]
    fn a_slope_has_one_straight_contour_and_a_bowl_a_closed_one() {
        let slope = values(|x, _| x);
        let lines = grid(&slope).contours(0.5);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].len(), AXIS.len());
        assert!(lines[0].iter().all(|(x, _)| (x - 0.5).abs() < 1e-12));
        let bowl = values(|x, y| x * x + y * y);
        let lines = grid(&bowl).contours(2.0);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].first(), lines[0].last());
        assert!(grid(&bowl).contours(-1.0).is_empty());
    }

    #[test]
    fn a_saddle_and_a_hole_break_contours() {
        let saddle = values(|x, y| x * y);
        assert_eq!(grid(&saddle).contours(0.25).len(), 2);
        let mut holed = values(|x, _| x);
        holed[2][3] = None;
        assert_eq!(grid(&holed).contours(0.5).len(), 2);
    }

    #[test]
    fn quantiles_lie_between_values() {
        assert_eq!(quantile(&[1.0, 2.0, 4.0], 0.75), Some(3.0));
        assert_eq!(quantile(&[7.0], 0.9), Some(7.0));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
