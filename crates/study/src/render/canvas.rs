//! Drawing on SVG and PNG alike.

use std::sync::Once;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};

use crate::Error;

/// The font of all figures.
pub(super) const FONT: &str = "sans-serif";

/// What tells groups apart, also for most colour-blind readers (Okabe and Ito 2008).
pub(super) const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(90, 90, 90),
];

/// What a drawing backend says when it fails.
pub(super) type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

/// A picture of a given size.
pub(super) trait Draw {
    /// Pixels.
    fn size(&self) -> (u32, u32);

    /// Draws it on a white area of that size.
    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn<B>;
}

fn failed(reason: impl ToString) -> Error {
    Error::Render { what: "a figure".to_owned(), reason: reason.to_string() }
}

/// A font that travels with the program, so that figures look the same everywhere.
fn font() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Refused only for data that is no font; then drawing text reports it.
        let _ = register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
    });
}

pub(super) fn svg(picture: &impl Draw) -> Result<String, Error> {
    font();
    let mut out = String::new();
    {
        let area = SVGBackend::with_string(&mut out, picture.size()).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        picture.draw(&area).map_err(failed)?;
        area.present().map_err(failed)?;
    }
    Ok(out)
}

pub(super) fn png(picture: &impl Draw) -> Result<Vec<u8>, Error> {
    font();
    let (width, height) = picture.size();
    let mut pixels = vec![0u8; (width * height * 3) as usize];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        picture.draw(&area).map_err(failed)?;
        area.present().map_err(failed)?;
    }
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header().and_then(|mut w| w.write_image_data(&pixels)).map_err(failed)?;
    Ok(out)
}

/// Text with its anchor at a place.
pub(super) fn text<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    words: &str,
    size: u32,
    colour: &RGBColor,
    (h, v): (HPos, VPos),
    at: (i32, i32),
) -> Drawn<B> {
    area.draw_text(words, &(FONT, size).into_font().color(colour).pos(Pos::new(h, v)), at)
}
