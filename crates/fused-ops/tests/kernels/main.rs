//! The CUDA C kernels on this machine's processor: `attention.cu` goes through a C++ compiler with a header that emulates a
//! block's threads (`emulate.h`), and is compared with attention's definition in f64 (`attention.cpp`). It finds wrong results,
//! races in shared memory, missing waits, deadlocks and accesses beyond arrays; it says nothing about speed.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../src/cuda/plan.rs"]
mod plan;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fused_ops::flash_attention_takes;
use plan::{Entry, STEP, Sizes, THREADS};

const SOURCE: &str = include_str!("../../src/cuda/attention.cu");

/// The machine's C++ compiler.
fn compiler() -> Option<String> {
    let named = std::env::var("CXX").ok();
    let found = named.into_iter().chain(["c++".into(), "g++".into()]).find(|name: &String| {
        let works = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        works.is_ok_and(|status| status.success())
    });
    if found.is_none() {
        let message = "no C++ compiler (CXX, c++, g++)";
        assert_ne!(std::env::var("NEED_CXX").as_deref(), Ok("1"), "{message}");
        eprintln!("skipped: {message}");
    }
    found
}

/// A folder for what is compiled.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernels").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A program that runs the kernels of a source for heads of one size.
fn build(compiler: &str, source: &str, name: &str, head: usize, rotary: usize) -> PathBuf {
    let (folder, here) = (folder(name), Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernels"));
    std::fs::write(folder.join("attention.cu"), source).unwrap();
    // Beside the kernels, which it includes by their name.
    std::fs::copy(here.join("attention.cpp"), folder.join("attention.cpp")).unwrap();
    let program = folder.join(format!("attention-{head}-{rotary}"));
    let output = Command::new(compiler)
        .args(["-std=c++17", "-O2", "-DEMULATE", &format!("-DHEAD={head}"), &format!("-DROTARY={rotary}")])
        // (NVRTC's warnings count, in .ci/kernels: a compiler that nobody chose may warn of anything.)
        .arg("-w")
        .arg("-I")
        .arg(&here)
        .arg(folder.join("attention.cpp"))
        .arg("-o")
        .arg(&program)
        .output()
        .unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    program
}

/// A call of the kernels: sizes, how documents start, and how far qkv spreads.
#[derive(Debug, Clone, Copy)]
struct Call {
    batch: usize,
    time: usize,
    heads: usize,
    starts: Starts,
    spread: f64,
    seed: u64,
}

#[derive(Debug, Clone, Copy)]
enum Starts {
    None,
    /// Boundaries at random, about every 40 positions.
    Documents,
    /// One past the middle: whole tiles fall away.
    Late,
    /// Not ascending, some beyond the position, some before the sequence.
    Any,
}

const fn call(batch: usize, time: usize, heads: usize, starts: Starts) -> Call {
    Call { batch, time, heads, starts, spread: 1.0, seed: 1 }
}

impl Call {
    /// The call as the program reads it, launched as on a GPU.
    fn line(self, head: usize, rotary: usize) -> String {
        let Self { batch, time, heads, starts, spread, seed } = self;
        let sizes = Sizes { batch, time, heads, head, rotary };
        assert!(sizes.fit(), "{sizes:?}");
        let mut line = format!("{batch} {time} {heads} {} {spread} {seed}", starts as u8);
        for entry in Entry::ALL {
            let [x, y, z] = entry.grid(sizes);
            line += &format!(" {} {x} {y} {z} {}", entry.entry_point(), entry.shared_bytes(head));
        }
        line
    }
}

/// What a program says, and whether it found nothing wrong.
fn run(program: &Path, lines: &[String]) -> (bool, String) {
    let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // A program that ends early does not read the rest.
    let _ = child.stdin.take().unwrap().write_all((lines.join("\n") + "\n").as_bytes());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let how = if output.status.code().is_none() { " (beyond an array's end)" } else { "" };
    (output.status.success(), said + how)
}

fn passes(program: &Path, lines: &[String]) {
    let (good, said) = run(program, lines);
    println!("{said}");
    assert!(good, "{said}");
    assert_eq!(said.lines().filter(|line| line.ends_with(" ok")).count(), lines.len(), "{said}");
}

/// Every edge of a tile, kinds of starts, and peaked scores.
#[test]
fn attention_is_its_definition() {
    let Some(compiler) = compiler() else { return };
    let cases = [
        call(1, 1, 1, Starts::None),
        call(2, 17, 3, Starts::None),
        call(1, 64, 2, Starts::None),
        call(1, 257, 1, Starts::None),
        call(2, 17, 2, Starts::Documents),
        call(2, 100, 3, Starts::Documents),
        call(2, 257, 1, Starts::Late),
        call(1, 129, 1, Starts::Any),
        call(1, 130, 2, Starts::Late),
        call(1, 146, 1, Starts::Late),
        call(1, 386, 1, Starts::Late),
        Call { spread: 3.0, ..call(1, 200, 1, Starts::None) },
    ];
    let program = build(&compiler, SOURCE, "whole", 64, 16);
    let lines: Vec<String> = cases.iter().map(|c| c.line(64, 16)).chain(["layouts".into()]).collect();
    passes(&program, &lines);
}

/// Heads of other sizes, and other numbers of rotary features.
#[test]
fn heads_of_every_size() {
    let Some(compiler) = compiler() else { return };
    let cases = [call(1, 130, 2, Starts::Documents), call(2, 65, 1, Starts::Any), call(1, 200, 1, Starts::None)];
    for (head, rotary) in [(32, 0), (32, 8), (64, 64), (96, 32), (128, 32)] {
        let program = build(&compiler, SOURCE, "sizes", head, rotary);
        passes(&program, &cases.map(|c| c.line(head, rotary)));
    }
}

/// Shapes that nobody chose, and sizes between those above. (Minutes.)
#[test]
#[ignore = "minutes: .ci/full"]
fn random_calls() {
    let Some(compiler) = compiler() else { return };
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos()));
    println!("SEED={seed}");
    let mut state = seed;
    let mut below = |most: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % most
    };
    for head in (16..=128).step_by(16) {
        let rotary = [8, 16 * below(head as u64 / 16 + 1) as usize][below(2) as usize];
        let program = build(&compiler, SOURCE, "random", head, rotary);
        let lines: Vec<String> = (0..12)
            .map(|_| Call {
                batch: 1 + below(2) as usize,
                time: 1 + below(330) as usize,
                heads: 1 + below(3) as usize,
                starts: [Starts::None, Starts::Documents, Starts::Late, Starts::Any][below(4) as usize],
                spread: [1.0, 3.0][below(2) as usize],
                seed: below(1 << 30),
            })
            .map(|c| c.line(head, rotary))
            .collect();
        passes(&program, &lines);
    }
}

/// A change that must be found.
struct Mutant {
    what: &'static str,
    /// What is replaced, and by what; each place is changed alone.
    old: &'static str,
    new: &'static str,
    places: usize,
    /// Sizes of heads for which the code is in use.
    heads: &'static [usize],
}

const fn mutant(what: &'static str, old: &'static str, new: &'static str, places: usize) -> Mutant {
    Mutant { what, old, new, places, heads: &[64, 128] }
}

impl Mutant {
    const fn of(self, heads: &'static [usize]) -> Self {
        Self { heads, ..self }
    }
}

const MUTANTS: &[Mutant] = &[
    mutant(
        "swizzle left out when copying",
        "copy_async_16(place(tile, row, chunk),",
        "copy_async_16(tile + row * ROW + chunk * 16,",
        1,
    ),
    mutant("k chunk of a fragment", "(lane_part ^ (k << 5))", "(lane_part ^ (k << 4))", 1),
    mutant("lane's row in b", "(lane & 7) + (lane >> 4) * 8", "(lane & 7) + (lane >> 3 & 1) * 8", 1),
    mutant(
        "causal mask one short (forward)",
        "if (column > row || column < start_of(starts, info, row)) s",
        "if (column >= row || column < start_of(starts, info, row)) s",
        1,
    ),
    mutant(
        "causal mask one long (gk, gv)",
        "if (row > column || row < from)",
        "if (row > column + 1 || row < from)",
        1,
    ),
    mutant("start ignored in gq", "if (column > row || column < start[m][e / 2]) p", "if (column > row) p", 1),
    mutant(
        "start beyond its position",
        "int from = min(int(__float_as_uint(e % 2 ? start.y : start.x)), column);",
        "int from = int(__float_as_uint(e % 2 ? start.y : start.x));",
        1,
    ),
    mutant("start before the sequence", "int start = max(0, min(", "int start = (min(", 1),
    mutant("older sums do not fade", "total[m][half] * fade + part", "total[m][half] + part", 1),
    mutant("delta not subtracted", "(gs[m][n][e] - (e % 2 ? centre.y : centre.x))", "gs[m][n][e]", 1),
    mutant("delta of the neighbouring query", "(e % 2 ? centre.y : centre.x)", "centre.x", 1),
    mutant("rotation back the wrong way", "x[m][n][e] = p * c + q * s;", "x[m][n][e] = p * c - q * s;", 1),
    mutant("rows beyond T written", "if (r < rows_left) *reinterpret_cast", "if (r <= rows_left) *reinterpret_cast", 1),
    mutant("rows beyond T read", "bool inside = row < rows_left;", "bool inside = row <= rows_left;", 1),
    mutant("copies not waited for", "wait_copies<0>();", "wait_copies<1>();", 6),
    mutant(
        "no barrier after a tile",
        "        wait_copies<0>();\n        __syncthreads();",
        "        wait_copies<0>();",
        3,
    ),
    mutant(
        "no barrier before the first",
        "    wait_copies<0>();\n    __syncthreads();\n    Left q",
        "    wait_copies<0>();\n    Left q",
        2,
    ),
    mutant("gk and gv through the same rows", "write_rows(gv, v_tile,", "write_rows(gv, k_tile,", 1),
    mutant("one buffer for both stages", "load(next, stage ^ 1)", "load(next, stage)", 1),
    mutant("a needed tile skipped", ".x >= first + BLOCK", ".x >= first", 1),
    mutant(
        "first tile of keys one late",
        "const int begin = min(near.x, far.x) / STEP,",
        "const int begin = (min(near.x, far.x) + STEP - 1) / STEP,",
        2,
    ),
    mutant(
        "rows read before all written",
        "    __syncwarp();\n#pragma unroll\n    for (int i = 0; i < WARP",
        "#pragma unroll\n    for (int i = 0; i < WARP",
        1,
    ),
    mutant(
        "a lane leaves early",
        "if (warp_first >= info.time) return;",
        "if (warp_first + lane >= info.time) return;",
        3,
    ),
    mutant("the scale of another head size", "float(1 / square_root(D))", "float(1 / square_root(D + 1))", 1),
    mutant("a chunk of delta left out", "if (inside && chunk < CHUNKS)", "if (inside && chunk + 1 < CHUNKS)", 1),
    mutant(
        "the rotation of eight features, second half",
        "x.w[i + 2] = pack_bf16(low_half(b) * c[0] + low",
        "x.w[i + 2] = pack_bf16(low_half(b) * c[0] - low",
        1,
    )
    .of(&[32]),
    mutant("and back", "(lane % 4 < 2 ? pair : -pair)", "(lane % 4 < 2 ? -pair : pair)", 1).of(&[32]),
    mutant(
        "a partner of the rotation",
        "chunk * 8 - HALF : chunk * 8 + HALF",
        "chunk * 8 - HALF : chunk * 8 + HALF - 8",
        1,
    ),
    mutant("only the nearer starts (forward, gq)", "warp_row < STEP ? near.y : far.y", "near.y", 2).of(&[64]),
    mutant("no mask at the first key of a start", "key < latest_start)", "key + 1 < latest_start)", 2),
    mutant("no mask at the first query", "warp_first < latest_start)", "warp_first + 1 < latest_start)", 1),
    mutant(
        "delta in another order",
        "delta[(size_t(b) * info.heads + h) * info.time + t]",
        "delta[(size_t(b) * info.time + t) * info.heads + h]",
        1,
    ),
];

/// Every place that mutants fit: a name, the broken source, and for which heads.
fn mutants() -> Vec<(String, String, &'static [usize])> {
    let mut all = Vec::new();
    for Mutant { what, old, new, places, heads } in MUTANTS {
        let pieces: Vec<&str> = SOURCE.split(old).collect();
        assert_eq!(pieces.len(), places + 1, "{what}");
        for i in 1..=*places {
            let broken = format!("{}{new}{}", pieces[..i].join(old), pieces[i..].join(old));
            let name = if *places > 1 { format!("{what}, {i} of {places}") } else { (*what).to_owned() };
            all.push((name, broken, *heads));
        }
    }
    all
}

/// Each stands where it says, as often as it says: [`mutants`] asserts it.
#[test]
fn every_mutant_has_its_place() {
    mutants();
}

/// The checks notice each of them, with heads as Pythia's.
#[test]
#[ignore = "minutes: .ci/full"]
fn every_mutant_is_found() {
    let Some(compiler) = compiler() else { return };
    let cases = [
        call(2, 100, 1, Starts::None),
        call(1, 100, 2, Starts::Any),
        call(1, 257, 1, Starts::Any),
        call(1, 200, 1, Starts::Documents),
        // A start one position after a tile's first, and of a warp's.
        call(1, 130, 1, Starts::Late),
        call(1, 146, 1, Starts::Late),
        call(1, 386, 1, Starts::Late),
    ];
    let mut missed = Vec::new();
    for (head, rotary) in [(32, 8), (64, 16), (128, 32)] {
        let lines = cases.map(|c| c.line(head, rotary));
        passes(&build(&compiler, SOURCE, "unbroken", head, rotary), &lines);
        for (i, (what, source, heads)) in mutants().iter().enumerate() {
            if !heads.contains(&head) {
                continue;
            }
            let program = build(&compiler, source, &format!("mutant-{i}"), head, rotary);
            let (good, said) = run(&program, &lines);
            assert!(!said.contains("not a call"), "{said}");
            let last = said.lines().last().unwrap_or_default();
            println!("{head} {what}: {}", last.rsplit(':').next().unwrap_or(last));
            if good {
                missed.push(format!("{head}: {what}"));
            }
        }
    }
    assert!(missed.is_empty(), "not found: {missed:#?}");
}

/// The program's constants and the launches agree: tiles of `STEP`, blocks of `THREADS`.
#[test]
fn constants_are_the_sources() {
    assert!(SOURCE.contains(&format!("constexpr int THREADS = {THREADS};")));
    assert!(SOURCE.contains(&format!("constexpr int STEP = {STEP};")));
}

/// Pythia's sizes: heads of 256 features (1b) and 20 rotary ones (2.8b) are left out.
#[test]
fn pythias_sizes() {
    let sizes = [("14m", 32, 8), ("70m", 64, 16), ("1b", 256, 64), ("1.4b", 128, 32), ("2.8b", 80, 20)];
    let fit = |head, rotary| Sizes { batch: 4, time: 2048, heads: 8, head, rotary }.fit();
    let fused: Vec<&str> = sizes.iter().filter(|(_, head, rotary)| fit(*head, *rotary)).map(|s| s.0).collect();
    assert_eq!(fused, ["14m", "70m", "1.4b"]);
}

#[test]
fn what_the_kernels_do_not_fit() {
    let fits = Sizes { batch: 16, time: 2048, heads: 12, head: 64, rotary: 16 };
    assert!(fits.fit());
    let bad = [
        Sizes { head: 256, ..fits },
        Sizes { head: 80, rotary: 20, ..fits },
        Sizes { head: 0, rotary: 0, ..fits },
        Sizes { head: 32, rotary: 48, ..fits },
        Sizes { rotary: 24, ..fits },
        Sizes { time: 0, ..fits },
        Sizes { batch: 1 << 16, ..fits },
        Sizes { heads: 1 << 16, ..fits },
        Sizes { batch: 1 << 15, time: 1 << 13, ..fits },
        Sizes { time: usize::MAX / 4, ..fits },
    ];
    for sizes in bad {
        assert!(!sizes.fit(), "{sizes:?}");
    }
}
