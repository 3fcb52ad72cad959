//! Ways through a plane, and words beside their stops.

use plotters::element::DashedPathElement;
use plotters::prelude::*;

use super::canvas::{Area, Drawn, INK, LEFT, SMALL, colour, shortened, text, width};

/// A way through a plane.
#[derive(Debug, Clone, PartialEq)]
pub struct Way {
    /// What it is.
    pub name: String,
    /// The place of its colour; without one, its own among the ways.
    pub colour: Option<usize>,
    /// Its points, one after the other.
    pub points: Vec<(f64, f64)>,
    /// Points with words, which need not be among its points.
    pub stops: Vec<(f64, f64, String)>,
    /// Whether its line is broken.
    pub dashed: bool,
}

impl Way {
    /// The colour of the way at a place among the ways.
    pub(super) fn ink(&self, place: usize) -> RGBColor {
        colour(self.colour.unwrap_or(place))
    }

    /// Every place that it shows.
    pub(super) fn places(&self) -> impl Iterator<Item = (f64, f64)> {
        self.points.iter().copied().chain(self.stops.iter().map(|(x, y, _)| (*x, *y)))
    }
}

type Pixel = (i32, i32);
/// Upper left and lower right corner.
pub(super) type Corners = [Pixel; 2];

const HALO: RGBColor = WHITE;
/// Half a line of text.
const HALF: i32 = 9;

/// Ways over a panel, where `pixel` tells the place of a point of the plane.
pub(super) fn draw_ways(area: &Area<'_>, ways: &[Way], plot: Corners, pixel: impl Fn((f64, f64)) -> Pixel) -> Drawn {
    let lines: Vec<Vec<Pixel>> = ways.iter().map(|w| w.points.iter().map(|at| pixel(*at)).collect()).collect();
    for (i, (way, line)) in ways.iter().zip(&lines).enumerate() {
        draw_line(area, line, way.dashed, way.ink(i))?;
    }
    let mut stops: Vec<(Pixel, &str)> = Vec::new();
    for (i, (way, line)) in ways.iter().zip(&lines).enumerate() {
        for at in line {
            draw_circle(area, *at, 3, (way.ink(i), HALO))?;
        }
        for (x, y, words) in &way.stops {
            draw_circle(area, pixel((*x, *y)), 5, (HALO, way.ink(i)))?;
            // Ways that meet may both name the place.
            let stop = (pixel((*x, *y)), words.as_str());
            if !stops.contains(&stop) {
                stops.push(stop);
            }
        }
    }
    draw_words(area, &stops, &lines, plot)
}

/// A line that is seen on any colour.
pub(super) fn draw_line(area: &Area<'_>, line: &[Pixel], dashed: bool, ink: RGBColor) -> Drawn {
    if line.len() < 2 {
        return Ok(());
    }
    area.draw(&PathElement::new(line.to_vec(), HALO.mix(0.85).stroke_width(6)))?;
    if dashed {
        area.draw(&DashedPathElement::new(line.to_vec(), 8, 5, ink.stroke_width(3)))?;
    } else {
        area.draw(&PathElement::new(line.to_vec(), ink.stroke_width(3)))?;
    }
    Ok(())
}

fn draw_circle(area: &Area<'_>, at: Pixel, radius: i32, (inside, around): (RGBColor, RGBColor)) -> Drawn {
    area.draw(&Circle::new(at, radius + 2, around.filled()))?;
    area.draw(&Circle::new(at, radius, inside.filled()))?;
    Ok(())
}

/// Words beside stops, within the plot and where they cover least.
fn draw_words(area: &Area<'_>, stops: &[(Pixel, &str)], lines: &[Vec<Pixel>], plot: Corners) -> Drawn {
    let covered: Vec<Pixel> = lines.iter().flat_map(|line| along(line)).collect();
    let mut taken: Vec<Corners> = stops.iter().map(|((x, y), _)| [(x - 7, y - 7), (x + 7, y + 7)]).collect();
    let most = (plot[1].0 - plot[0].0 - 8).max(0) as u32;
    for (at, words) in stops {
        let words = shortened(words, SMALL, most);
        let place = best(*at, width(&words, SMALL) as i32 + 6, plot, (&taken, &covered));
        area.draw(&Rectangle::new(place, HALO.mix(0.8).filled()))?;
        text(area, &words, SMALL, &INK, LEFT, (place[0].0 + 3, place[0].1 + HALF))?;
        taken.push(place);
    }
    Ok(())
}

/// Places a few pixels apart on a line.
fn along(line: &[Pixel]) -> Vec<Pixel> {
    let step = |pair: &[Pixel]| {
        let [(x0, y0), (x1, y1)] = [pair[0], pair[1]];
        let steps = ((x1 - x0).abs().max((y1 - y0).abs()) / 6).max(1);
        (0..=steps).map(|i| (x0 + (x1 - x0) * i / steps, y0 + (y1 - y0) * i / steps)).collect::<Vec<Pixel>>()
    };
    line.windows(2).flat_map(step).collect()
}

/// The box of words around a stop that covers least: other words most of all, then lines.
fn best((x, y): Pixel, wide: i32, plot: Corners, (taken, covered): (&[Corners], &[Pixel])) -> Corners {
    let (right, left) = (x + 9, x - 9 - wide);
    let mut candidates = Vec::new();
    for far in [0, 14, 32, 54] {
        let [up, down] = [y - 20 - far, y + 20 + far];
        let middle = x - wide / 2;
        if far == 0 {
            candidates.extend([(right, y), (left, y)]);
        }
        candidates.extend([(middle, up), (middle, down), (right, up), (left, up), (right, down), (left, down)]);
    }
    let placed = candidates.into_iter().map(|(x, y)| kept([(x, y - HALF), (x + wide, y + HALF)], plot));
    let cost = |place: &Corners| {
        let boxes = taken.iter().filter(|other| overlap(**other, *place)).count();
        let dots = covered.iter().filter(|(x, y)| overlap([(x - 2, y - 2), (x + 2, y + 2)], *place)).count();
        20 * boxes + dots
    };
    placed.min_by_key(cost).unwrap_or([(x, y), (x, y)])
}

/// A box moved into another, by as little as it takes.
fn kept([(x0, y0), (x1, y1)]: Corners, [(left, top), (right, bottom)]: Corners) -> Corners {
    let across = (left + 2 - x0).max(0) + (right - 2 - x1).min(0);
    let down = (top + 2 - y0).max(0) + (bottom - 2 - y1).min(0);
    [(x0 + across, y0 + down), (x1 + across, y1 + down)]
}

fn overlap([a, b]: Corners, [c, d]: Corners) -> bool {
    a.0 < d.0 && c.0 < b.0 && a.1 < d.1 && c.1 < b.1
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLOT: Corners = [(0, 0), (400, 400)];

    #[test]
    fn words_stay_inside_and_off_each_other() {
        let mut taken: Vec<Corners> = Vec::new();
        for at in [(2, 2), (398, 398), (398, 2), (200, 200), (204, 202), (200, 205)] {
            let place = best(at, 90, PLOT, (&taken, &[]));
            assert!(place[0].0 >= 0 && place[0].1 >= 0 && place[1].0 <= 400 && place[1].1 <= 400, "{place:?}");
            assert!(!taken.iter().any(|other| overlap(*other, place)), "{at:?}: {place:?} over {taken:?}");
            taken.push(place);
        }
    }

    #[test]
    fn words_give_way_to_lines() {
        let line = along(&[(0, 200), (400, 200)]);
        let place = best((200, 200), 60, PLOT, (&[], &line));
        assert!(place[1].1 < 200 || place[0].1 > 200, "{place:?}");
    }
}
