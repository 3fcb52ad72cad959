//! A figure: a picture, the numbers that it shows, and its words.

mod bars;
mod canvas;
mod grid;
mod heatmap;
mod lines;
mod plane;
mod png;
mod scatter;
mod ways;

pub use bars::{BarPanel, Bars};
pub use heatmap::{Heatmap, Heatmaps};
pub use lines::{Curves, Lines};
pub use plane::{Field, Plane};
pub use scatter::{Dot, Scatter, ScatterPanel};
pub use ways::Way;

use self::canvas::{Draw, svg};
use crate::{Error, Table};

/// A number with its interval, where it has one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// Its interval, lower end first.
    pub interval: Option<(f64, f64)>,
}

impl Estimate {
    /// The least and the greatest of its number and its interval.
    fn ends(self) -> [f64; 2] {
        let (low, high) = self.interval.unwrap_or((self.value, self.value));
        [low.min(self.value), high.max(self.value)]
    }
}

impl From<f64> for Estimate {
    fn from(value: f64) -> Self {
        Self { value, interval: None }
    }
}

/// A picture and the numbers that it shows.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Figure {
    pub(crate) name: String,
    pub(crate) title: String,
    /// Lines below the title.
    pub(crate) subtitle: Vec<String>,
    pub(crate) picture: Picture,
    pub(crate) data: Table,
}

/// What can be drawn.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Picture {
    /// Horizontal bars.
    Bars(Bars),
    /// Points.
    Scatter(Scatter),
    /// Curves.
    Lines(Lines),
    /// Matrices.
    Heatmaps(Heatmaps),
    /// A measured slice through a space.
    Plane(Plane),
}

macro_rules! picture_from {
    ($($kind:ident),*) => {$(
        impl From<$kind> for Picture {
            fn from(picture: $kind) -> Self {
                Self::$kind(picture)
            }
        }
    )*};
}
picture_from!(Bars, Scatter, Lines, Heatmaps, Plane);

impl Picture {
    fn as_draw(&self) -> &dyn Draw {
        match self {
            Self::Bars(p) => p,
            Self::Scatter(p) => p,
            Self::Lines(p) => p,
            Self::Heatmaps(p) => p,
            Self::Plane(p) => p,
        }
    }
}

impl Figure {
    /// A picture of the data, under the data's name and title.
    pub fn new(data: Table, picture: impl Into<Picture>) -> Self {
        let (name, title) = (data.name().to_owned(), data.title().to_owned());
        Self { name, title, subtitle: Vec::new(), picture: picture.into(), data }
    }

    /// With lines below the title.
    #[must_use]
    pub fn subtitle(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.subtitle.extend(lines);
        self
    }

    /// The name of its files.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As SVG.
    ///
    /// # Errors
    /// A picture that cannot be drawn.
    pub fn svg(&self) -> Result<String, Error> {
        svg(self).map_err(|reason| Error::Figure { figure: self.name.clone(), reason })
    }

    /// The SVG as PNG, two pixels for one of it.
    ///
    /// # Errors
    /// An SVG that cannot be read.
    pub(crate) fn png(&self, svg: &str) -> Result<Vec<u8>, Error> {
        png::of(svg).map_err(|reason| Error::Figure { figure: self.name.clone(), reason })
    }
}
