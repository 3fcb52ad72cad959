//! A table that this project does not have: how much of what a mix gains on a set it pays for on general text.

use std::alloc::{GlobalAlloc, Layout, System};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use midtrain::protocol::{ARMS, Protocol, SFT};
use midtrain::report::{Column, Format, Page, Table};
use midtrain::study::{ArmId, Cell, Error, Evaluate, Graph, Question, SetId};

/// This program's own allocator: no library of the project may bring another.
struct Counting;
static BYTES: AtomicU64 = AtomicU64::new(0);

// SAFETY: everything is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Price;

/// An arm on a set: the loss on the set and on general text of its first fine-tune, once its learning rate is chosen.
struct Row {
    arm: ArmId,
    set: SetId,
    losses: Option<(Evaluate, Evaluate)>,
}

impl Price {
    fn rows(graph: &mut Graph<'_>) -> Result<Vec<Row>, Error> {
        let study = graph.study();
        let mut rows = Vec::new();
        for set in study.sets() {
            for arm in study.arms() {
                let cell = Cell { arm, set, pretrain_seed: 0, sft_seed: 0 };
                let losses = match graph.finetune(cell)? {
                    Some(tuned) => Some(graph.losses_of(&tuned, set)?),
                    None => None,
                };
                rows.push(Row { arm, set, losses });
            }
        }
        Ok(rows)
    }
}

impl Question for Price {
    fn name(&self) -> &str {
        "price"
    }

    fn needs(&self, graph: &mut Graph<'_>) -> Result<(), Error> {
        Self::rows(graph).map(drop)
    }

    fn answer(&self, name: &str, graph: &mut Graph<'_>) -> Result<Page, Error> {
        let (study, rows) = (graph.study(), Self::rows(graph)?);
        let (mut on_set, mut general) = (Vec::new(), Vec::new());
        for row in &rows {
            let losses = match &row.losses {
                Some((set, text)) => Some((graph.loss(set)?, graph.loss(text)?)),
                None => None,
            };
            let (set, text) = losses.map_or((None, None), |(set, text)| (set.ok(), text.ok()));
            on_set.push(set.map(|loss| loss.total().nats_per_token()));
            general.push(text.map(|loss| loss.total().nats_per_token()));
        }
        let table = Table::new(name, "Losses of each arm's first fine-tune, nats per token")
            .with(Column::text("dataset", rows.iter().map(|r| study[r.set].name.as_str())))
            .with(Column::text("mix", rows.iter().map(|r| study[r.arm].name())))
            .with(Column::number("sft_loss", Format::Fixed(3), on_set))
            .with(Column::number("general_loss", Format::Fixed(3), general))
            .grouped();
        Ok(table.into())
    }
}

fn main() -> ExitCode {
    let code = midtrain::run("price", &Protocol { arms: ARMS, sft: SFT, ..Protocol::PAPER }, Price);
    eprintln!("{} bytes were allocated", BYTES.load(Ordering::Relaxed));
    code
}
