//! Figure 1: the way of fine-tuning from the control and from a midtrained model, in a slice of parameter space that is measured.
//! (The paper's figure is a sketch.)

use report::{Column, Field, Figure, Format, Page, Plane, Table, Way};

use super::Question;
use super::comparison::seeds_in_words;
use crate::graph::{Graph, Rate};
use crate::job::{Measured, Place, Sliced};
use crate::protocol::{Arm, PYCODE, STARCODER, SftSet};
use crate::store::Failure;
use crate::{ArmId, Error, SetId, Study};

/// The plane through the control, a midtrained model and its fine-tuned weights: losses, the cosine of their gradients, both
/// ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figure1<'a> {
    /// The midtrained arm.
    pub arm: &'a str,
    /// The set.
    pub set: &'a str,
}

impl<'a> Figure1<'a> {
    /// Of an arm and a set of a protocol.
    pub const fn of(arm: Arm<'a>, set: SftSet<'a>) -> Self {
        Self { arm: arm.name, set: set.name }
    }

    /// 20 % Starcoder, fine-tuned on Pycode.
    pub const PAPER: Figure1<'static> = Figure1::of(STARCODER, PYCODE);
}

impl Figure1<'_> {
    fn places(&self, study: &Study) -> Result<(ArmId, SetId), Error> {
        let (arm, set) = (study.arm_named(self.arm)?, study.set_named(self.set)?);
        if arm == study.control() {
            return Err(Error::field("arm", self.arm, "is the control: a plane needs two runs"));
        }
        Ok((arm, set))
    }
}

impl Question for Figure1<'_> {
    fn name(&self) -> &str {
        "figure1"
    }

    fn check(&self, study: &Study) -> Result<(), Error> {
        self.places(study).map(|_| ())
    }

    fn needs(&self, graph: &mut Graph<'_>) -> Result<(), Error> {
        let (arm, set) = self.places(graph.study())?;
        graph.plane(arm, set).map(|_| ())
    }

    fn answer(&self, name: &str, graph: &mut Graph<'_>) -> Result<Page, Error> {
        let (arm, set) = self.places(graph.study())?;
        let study = graph.study();
        let outcome: Result<Sliced, Failure> = match graph.plane(arm, set)? {
            Some(job) => graph.outcome(&job)?,
            None => match graph.rate(arm, set)? {
                Rate::Failed(failure) => Err(failure),
                _ => return Err(Error::field("figure", name, "has a learning rate that is not chosen yet")),
            },
        };
        let mut page = Page::new(&format!("{} ({}): a slice, measured", super::heading(name), study.spec().model_name));
        page.asked = format!(
            "Does fine-tuning on {} from {} go another way than from {}, past less conflict of gradients?",
            study[set].name,
            study[arm].name(),
            study[study.control()].name()
        );
        match outcome {
            Ok(sliced) => Shown { study, name, arm, set, sliced: &sliced }.fill(&mut page),
            Err(failure) => page.found = vec![format!("failed: {failure}")],
        }
        Ok(page)
    }
}

struct Shown<'a> {
    study: &'a Study,
    name: &'a str,
    arm: ArmId,
    set: SetId,
    sliced: &'a Sliced,
}

impl Shown<'_> {
    fn fill(&self, page: &mut Page) {
        page.found = self.found();
        page.tables = vec![self.states()];
        page.figures = vec![self.figure()];
        page.details = vec![self.ways()];
        let off = self.sliced.control.last().map_or(0.0, |end| share_off(*end, self.origin()));
        page.notes = vec![
            format!(
                "The plane goes through the control (its origin), the midtrained model (on the x axis) and that model's fine-tuned weights. The \
                 control's fine-tuned weights lie off it, by {:.0} % of their distance from the control; what is drawn of other models is their \
                 projection, whose losses are not theirs: the table has their own.",
                100.0 * off
            ),
            format!(
                "A plane of {} dimensions shows little of what lies around it: that a way goes along a contour here says nothing of other \
                 directions. Of the first seeds of each run.",
                self.study.spec().model.parameter_count().total
            ),
            match self.sliced.end_difference {
                0.0 => "Both ways were walked again; they end at the stored models, to the last bit.".to_owned(),
                by => format!(
                    "Both ways were walked again; they end at the stored models up to {by:.0e} in every weight."
                ),
            },
            seeds_in_words(self.study),
        ];
    }

    fn origin(&self) -> Place {
        Place { x: 0.0, y: 0.0, off: 0.0 }
    }

    fn state(&self, name: &str) -> Option<&Measured> {
        self.sliced.states.iter().find(|state| state.name == name)?.measured.as_ref()
    }

    fn found(&self) -> Vec<String> {
        let (Some(control), Some(midtrained)) = (self.state("control"), self.state("midtrained")) else {
            return vec!["A loss of the control or of the midtrained model is not finite.".to_owned()];
        };
        let cosine = |m: &Measured| m.cosine.map_or("undefined".to_owned(), |cosine| format!("{cosine:+.3}"));
        let length = |way: &[Place]| way.first().zip(way.last()).map_or(0.0, |(a, b)| distance(*a, *b));
        vec![
            format!(
                "Where fine-tuning begins, the gradients of both losses have a cosine of {} at {} and of {} at {}; the loss on {} is {:.3} \
                 and {:.3} nats per token (on {} training examples).",
                cosine(control),
                self.study[self.study.control()].name(),
                cosine(midtrained),
                self.study[self.arm].name(),
                self.study[self.set].name,
                control.loss_t,
                midtrained.loss_t,
                self.study.spec().eval.path_rows
            ),
            format!(
                "Fine-tuning moves the weights by {:.2} from the control and by {:.2} from the midtrained model, which lie {:.2} apart.",
                length(&self.sliced.control),
                length(&self.sliced.midtrained),
                self.sliced.midtrained.first().map_or(0.0, |start| distance(self.origin(), *start))
            ),
        ]
    }

    fn states(&self) -> Table {
        let states = &self.sliced.states;
        let of = |value: fn(&Measured) -> Option<f64>| states.iter().map(move |s| value(s.measured.as_ref()?));
        let place = |value: fn(&Place) -> f64| states.iter().map(move |s| value(&s.place));
        let title = format!(
            "The models: where they lie, and their own losses on {} sequences and examples, nats per token",
            self.study.spec().eval.path_rows
        );
        Table::new("states", &title)
            .with(Column::text("model", states.iter().map(|s| s.name.as_str())))
            .with(Column::number("x", Format::Fixed(2), place(|p| p.x)))
            .with(Column::number("y", Format::Fixed(2), place(|p| p.y)))
            .with(Column::number("off_plane", Format::Fixed(2), place(|p| p.off)).heading("off the plane"))
            .with(Column::number("J_P", Format::Fixed(3), of(|m| Some(m.loss_p))).meaning("loss on general text"))
            .with(
                Column::number("J_T", Format::Fixed(3), of(|m| Some(m.loss_t)))
                    .meaning("loss on the set's training examples"),
            )
            .with(Column::number("cosine", Format::Signed(3), of(|m| m.cosine)).meaning("of the gradients of both"))
    }

    fn ways(&self) -> Table {
        let ways = [("control", &self.sliced.control), ("midtrained", &self.sliced.midtrained)];
        let rows: Vec<(&str, usize, Place)> =
            ways.iter().flat_map(|(name, way)| way.iter().enumerate().map(move |(i, p)| (*name, i, *p))).collect();
        Table::new("ways", "Both ways of fine-tuning, projected on the plane")
            .with(Column::text("from", rows.iter().map(|(name, ..)| *name)))
            .with(Column::count("point", rows.iter().map(|(_, i, _)| *i as u64)))
            .with(Column::number("x", Format::Fixed(4), rows.iter().map(|(.., p)| p.x)))
            .with(Column::number("y", Format::Fixed(4), rows.iter().map(|(.., p)| p.y)))
            .with(Column::number("off_plane", Format::Fixed(4), rows.iter().map(|(.., p)| p.off)))
            .grouped()
    }

    fn figure(&self) -> Figure {
        let Sliced { x, y, grid, control, midtrained, states, .. } = self.sliced;
        let [arm, control_name, set] =
            [self.study[self.arm].name(), self.study[self.study.control()].name(), &self.study[self.set].name];
        let values = |value: fn(&Measured) -> Option<f64>| -> Vec<Vec<Option<f64>>> {
            grid.iter().map(|row| row.iter().map(|m| value(m.as_ref()?)).collect()).collect()
        };
        let field = |title: &str, measure: &str, values, diverging| Field {
            title: title.to_owned(),
            measure: measure.to_owned(),
            values,
            diverging,
        };
        let points = |way: &[Place]| way.iter().map(|p| (p.x, p.y)).collect::<Vec<_>>();
        let stop = |name: &str, words: &str| {
            let state = states.iter().find(|state| state.name == name);
            state.map(|state| (state.place.x, state.place.y, labelled(words, state.place)))
        };
        let fork = states.iter().find(|state| state.name == "where both part").map(|state| state.place);
        let mut ways = vec![
            Way {
                name: format!("fine-tuning from {control_name}"),
                colour: Some(1),
                points: points(control),
                stops: [stop("control", control_name), stop("control, fine-tuned", "fine-tuned")]
                    .into_iter()
                    .flatten()
                    .collect(),
                dashed: false,
            },
            Way {
                name: format!("fine-tuning from {arm}"),
                colour: Some(0),
                points: points(midtrained),
                stops: [stop("midtrained", "midtrained"), stop("midtrained, fine-tuned", "fine-tuned")]
                    .into_iter()
                    .flatten()
                    .collect(),
                dashed: false,
            },
        ];
        if let (Some(fork), Some(middle)) = (fork, midtrained.first()) {
            ways.push(Way {
                name: "pretraining and midtraining".to_owned(),
                colour: Some(6),
                points: vec![(0.0, 0.0), (fork.x, fork.y), (middle.x, middle.y)],
                stops: vec![(fork.x, fork.y, labelled("where both part", fork))],
                dashed: true,
            });
        }
        let picture = Plane {
            x_axis: format!("towards {arm}, norm of weights"),
            y_axis: "towards its fine-tuned weights".to_owned(),
            x: x.clone(),
            y: y.clone(),
            fields: vec![
                field("loss on general text, J_P", "nats per token", values(|m| Some(m.loss_p)), false),
                field(&format!("loss on {set}, J_T"), "nats per token", values(|m| Some(m.loss_t)), false),
                field("cosine of their gradients", "cosine", values(|m| m.cosine), true),
            ],
            ways,
            across: 3,
        };
        let cells: Vec<(f64, f64, Option<&Measured>)> =
            grid.iter().zip(y).flat_map(|(row, y)| row.iter().zip(x).map(move |(m, x)| (*x, *y, m.as_ref()))).collect();
        let of = |value: fn(&Measured) -> Option<f64>| cells.iter().map(move |(.., m)| value((*m)?));
        let title = format!(
            "Fine-tuning on {set} from {control_name} and from {arm}, in the plane of three models ({})",
            self.study.spec().model_name
        );
        let data = Table::new(self.name, &title)
            .with(Column::number("x", Format::Fixed(4), cells.iter().map(|(x, ..)| *x)))
            .with(Column::number("y", Format::Fixed(4), cells.iter().map(|(_, y, _)| *y)))
            .with(Column::number("J_P", Format::Fixed(4), of(|m| Some(m.loss_p))))
            .with(Column::number("J_T", Format::Fixed(4), of(|m| Some(m.loss_t))))
            .with(Column::number("cosine", Format::Signed(4), of(|m| m.cosine)));
        Figure::new(data, picture).subtitle([
            "Contours: measured at the points of a grid, on fixed batches. Below 0 a step that lowers one loss raises the other.".to_owned(),
            "Off the plane: a projection, whose own losses are not those drawn beneath it; the table has them.".to_owned(),
        ])
    }
}

/// A model's name, with a word where it lies off the plane by more than a twentieth of its distance from the origin.
fn labelled(words: &str, place: Place) -> String {
    let off = place.off > 0.05 * distance(place, Place { x: 0.0, y: 0.0, off: 0.0 });
    if off { format!("{words} (off the plane)") } else { words.to_owned() }
}

fn distance(a: Place, b: Place) -> f64 {
    ((a.x - b.x).powi(2) + (a.y - b.y).powi(2) + (a.off - b.off).powi(2)).sqrt()
}

/// The part of a distance that lies across the plane.
fn share_off(place: Place, from: Place) -> f64 {
    let whole = distance(place, from);
    if whole > 0.0 { (place.off - from.off).abs() / whole } else { 0.0 }
}
