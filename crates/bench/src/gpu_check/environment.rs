//! What a GPU run needs, and what of it is missing: said before anything runs.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::child::output;

/// Where CUDA's headers and libraries may lie.
fn roots() -> Vec<PathBuf> {
    let named = std::env::var_os("CUDA_PATH").map(PathBuf::from);
    named.into_iter().chain(["/usr/local/cuda", "/opt/cuda"].map(PathBuf::from)).collect()
}

/// A shared library by the start of its name, where the loader looks: the folders it is told, and those it knows.
fn library(name: &str) -> Option<PathBuf> {
    let listed = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = listed.split(':').filter(|f| !f.is_empty()).map(PathBuf::from).collect();
    folders.extend(["/usr/lib64", "/usr/lib"].map(PathBuf::from));
    folders.push("/usr/lib/wsl/lib".into());
    let prefix = format!("lib{name}.so");
    let known = output("ldconfig", &["-p"]).or_else(|| output("/sbin/ldconfig", &["-p"])).unwrap_or_default();
    let known = known.lines().filter(|line| line.trim_start().starts_with(&prefix));
    let known = known.filter_map(|line| line.split(" => ").nth(1)).map(PathBuf::from).next();
    known.or_else(|| in_folders(&folders, &prefix))
}

fn in_folders(folders: &[PathBuf], prefix: &str) -> Option<PathBuf> {
    folders.iter().find_map(|folder| {
        let entries = std::fs::read_dir(folder).ok()?;
        let mut found = entries.flatten().map(|e| e.path());
        found.find(|p| p.file_name().is_some_and(|f| f.to_string_lossy().starts_with(prefix)))
    })
}

/// The machine, the versions, and what is missing for a backend.
pub(crate) fn look(backend: &str) -> Value {
    let query = ["--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"];
    let gpu = output("nvidia-smi", &query);
    let python = "import torch, transformers; print(torch.__version__, transformers.__version__, torch.version.cuda)";
    let [driver, nvrtc, cublas] = ["cuda", "nvrtc", "cublasLt"].map(library);
    let header = roots().into_iter().map(|r| r.join("include/cuda_runtime.h")).find(|p| p.exists());
    let mut missing = Vec::new();
    let mut need = |there: bool, text: &str| {
        if !there && backend == "cuda" {
            missing.push(text.to_owned());
        }
    };
    need(driver.is_some(), "missing: NVIDIA's driver (libcuda.so): install it, or add its folder to LD_LIBRARY_PATH");
    need(
        nvrtc.is_some(),
        "missing: NVRTC (libnvrtc.so): install CUDA's runtime compiler, add its folder to LD_LIBRARY_PATH",
    );
    need(
        header.is_some(),
        "missing: CUDA's headers (include/cuda_runtime.h): set CUDA_PATH to the folder above include",
    );
    let show = |p: &Option<PathBuf>| p.as_deref().map(Path::display).map(|p| p.to_string());
    json!({
        "gpu": gpu, "driver": show(&driver), "nvrtc": show(&nvrtc), "headers": show(&header),
        "cublaslt": show(&cublas), "torch": output("python3", &["-c", python]),
        "cores": std::thread::available_parallelism().map(usize::from).unwrap_or(1),
        "version": env!("CARGO_PKG_VERSION"), "missing": missing,
    })
}

/// For people.
pub(crate) fn text(found: &Value) -> String {
    let line = |name: &str, field: &str| format!("{name:<10} {}", found[field].as_str().unwrap_or("not found"));
    [
        line("GPU", "gpu"),
        line("driver", "driver"),
        line("NVRTC", "nvrtc"),
        line("headers", "headers"),
        line("cuBLASLt", "cublaslt"),
        line("torch", "torch"),
    ]
    .join("\n")
}
