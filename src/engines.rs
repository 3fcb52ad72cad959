//! Which engine runs a study's jobs: this process, or several of the same program.

use std::num::NonZeroUsize;
use std::process::Command;

use fused_ops::{DeviceMemory, Place};
use study::{Engine, Error, LocalEngine, ProcessEngine, Processes, StopSignal, Study, gpus};

use crate::Backend;
use crate::options::RunOptions;

/// How an engine's processes are called: the first argument.
pub(crate) const RUN_JOB: &str = "--run-job";
/// Of the memory that is available, how much jobs may be expected to take.
const MOST_OF_MEMORY: f64 = 0.7;

/// The engine that the options ask for.
pub(crate) fn engine(
    options: &RunOptions,
    backend: Backend,
    study: &Study,
    signal: &StopSignal,
) -> Result<Box<dyn Engine>, Error> {
    let processor =
        || backend.processor(options.checkpoint_seconds).map_err(|e| Error::Usage { reason: e.to_string() });
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let devices = if backend == Backend::Cuda { gpus() } else { Vec::new() };
    let per_job = options.gpus_per_job.get();
    // One job needs no list of devices: CUDA finds its own.
    if backend == Backend::Cuda
        && options.jobs.is_some_and(|jobs| jobs.get() > 1 && jobs.get() > devices.len() / per_job)
    {
        let limit = format!("x {per_job} GPUs a job are more than the {} GPUs that there are", devices.len());
        return Err(Error::Field {
            field: "--jobs".into(),
            value: format!("{}", options.jobs.map_or(1, NonZeroUsize::get)),
            limit,
        });
    }
    let usual = if backend.is_cpu() { on_cores(study, cores) } else { (devices.len() / per_job).max(1) };
    let jobs = options.jobs.map_or(usual, NonZeroUsize::get);
    if jobs == 1 {
        return Ok(Box::new(LocalEngine::new(processor()?, signal.clone())));
    }
    let program = std::env::current_exe().map_err(|source| Error::Io { path: "this program".into(), source })?;
    let seconds = options.checkpoint_seconds.to_string();
    let command = move |number: usize| {
        let mut command = Command::new(&program);
        command.args([RUN_JOB, "--backend", backend.name(), "--checkpoint-seconds", &seconds]);
        if let Some(own) = devices.get(number * per_job..(number + 1) * per_job) {
            command.env("CUDA_VISIBLE_DEVICES", own.join(","));
        }
        command
    };
    Ok(Box::new(ProcessEngine::new(Processes {
        machine: processor()?.machine().clone(),
        count: NonZeroUsize::new(jobs).unwrap_or(NonZeroUsize::MIN),
        cores,
        command: Box::new(command),
    })))
}

/// How many jobs are run at once on a CPU: one a core, as far as memory goes. Jobs on a core each were faster than one on
/// all cores for every model measured (docs/results/2026-11-26-jobs); where there are fewer jobs than cores, they share.
fn on_cores(study: &Study, cores: NonZeroUsize) -> usize {
    let each = study.largest(Place::Cpu).training_memory(Place::Cpu).total();
    let fit = available_memory().map_or(f64::INFINITY, |bytes| bytes * MOST_OF_MEMORY / each.max(1) as f64);
    cores.get().min(fit as usize).max(1)
}

/// Whether training fits into the device's memory, where it has some of its own and tells; and else what would.
pub(crate) fn fits(study: &Study, backend: Backend) -> Result<Option<String>, Error> {
    let memory = backend.device_memory().map_err(|e| Error::Usage { reason: e.to_string() })?;
    Ok(memory.map(|memory| beside(study.largest(Place::Gpu), memory)))
}

/// An estimate with room for what it does not count: the driver's context, a pool's spare pages, scores of attention where they are
/// kept. (From 70m to 1b 1.04 to 1.18 of the estimate was measured, half a gigabyte for the
/// context taken off; docs/results/2026-11-27-gpu.)
fn on_device(estimate: u64) -> u64 {
    estimate + estimate / 5 + 600_000_000
}

/// What training needs beside what a device has.
fn beside(study: &Study, memory: DeviceMemory) -> String {
    let gigabytes = |bytes: u64| bytes as f64 / 1e9;
    let need = on_device(study.training_memory(Place::Gpu).total());
    let (total, free) = (gigabytes(memory.total), gigabytes(memory.free));
    let has =
        format!("device memory: {total:.1} GB, {free:.1} of them free; training needs about {:.2}", gigabytes(need));
    if need <= memory.free {
        return format!("{has}: it fits");
    }
    let spec = study.spec();
    let row = spec.pretrain.time.max(spec.sft.max_time);
    let rows = std::iter::successors(Some(spec.pretrain.micro_tokens / row / 2), |rows| Some(rows / 2));
    let mut fewer = rows.take_while(|rows| *rows > 0).map(|rows| rows * row);
    let needs = |tokens: usize| on_device(spec.model.training_memory(tokens, study.compute(), Place::Gpu).total());
    let advice = match fewer.find(|tokens| needs(*tokens) <= memory.free) {
        Some(tokens) => format!("pretrain.micro_tokens = {tokens} would fit"),
        None if spec.pretrain.recompute => "take a smaller model".to_owned(),
        None => "pretrain.recompute = true needs less".to_owned(),
    };
    format!("{has}: it does NOT fit; {advice}")
}

/// Bytes, of the machine and of the container that this process may be in; `None` where the system does not say.
fn available_memory() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let machine = line.trim().trim_end_matches("kB").trim().parse::<f64>().ok()? * 1024.0;
    let bytes = |name: &str| std::fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?.trim().parse::<f64>().ok();
    let container = bytes("memory.max").map(|most| most - bytes("memory.current").unwrap_or(0.0));
    Some(container.map_or(machine, |container| container.min(machine)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_does_not_suffice_comes_with_what_would_fit() {
        let spec = study::StudySpec::read("tests/fixtures/tiny.toml".as_ref()).unwrap();
        let study = Study::new(spec).unwrap();
        let need = on_device(study.training_memory(Place::Gpu).total());
        let line = |free: u64| beside(&study, DeviceMemory { free, total: 80_000_000_000 });
        assert!(line(need).ends_with("it fits"), "{}", line(need));
        let tight = line(need - 1);
        assert!(tight.contains("80.0 GB") && tight.contains("NOT fit; pretrain.micro_tokens = "), "{tight}");
        let smaller: usize = tight.split("micro_tokens = ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(smaller < study.spec().pretrain.micro_tokens);
        assert!(line(1).contains("recompute"), "{}", line(1));
    }
}
