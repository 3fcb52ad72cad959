//! Running a study on a Slurm cluster: rounds of job arrays, each with a last job that plans and submits the next.
//!
//! 1. [`submit`] records the campaign in the store (`slurm/NAME/`) and submits the first planning job. Nothing heavy is
//!    done where it is called: planning happens on the cluster's own machines, because addresses name their kernels.
//! 2. [`plan`] runs in a planning job: it finds the jobs that the store lacks, puts them into tasks, submits these as
//!    arrays that wait for each other, and a planning job that waits for all. What takes a moment it does itself. When
//!    nothing is left it answers the question.
//! 3. [`run_task`] runs in an array's task.
//! 4. A task that is killed is tried once more in the next round; what then has no result failed.
//!
//! Locks make it harmless that a task is submitted twice, or runs beside another process on the same store.

mod campaign;
mod queue;
mod script;
mod status;
mod tasks;

pub use campaign::{Step, Submitted, Write, plan, preview, run_task, submit};
pub use script::Template;
pub use status::status;
