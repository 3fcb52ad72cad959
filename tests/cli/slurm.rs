//! The rounds of a study on Slurm, with a queue that is a folder: what is submitted is run by the test, in order.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{FILES, example, fixture, read, run_tiny, stderr, tiny};

/// A folder with an `sbatch` that keeps scripts, and an `squeue` that knows of none.
struct Queue {
    dir: PathBuf,
    path: String,
    next: u32,
}

const SBATCH: &str = r#"#!/bin/sh
n=$(cat "$QUEUE/count" 2> /dev/null || echo 0); n=$((n + 1)); echo $n > "$QUEUE/count"
cat > "$QUEUE/$n.sh"; echo "$n;cluster"
"#;

impl Queue {
    fn new(dir: &Path) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = dir.join("queue");
        std::fs::create_dir(&dir).unwrap();
        for (name, text) in [("sbatch", SBATCH), ("squeue", "#!/bin/sh\n")] {
            let path = dir.join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let path = format!("{}:{}", dir.display(), std::env::var("PATH").unwrap());
        Self { dir, path, next: 1 }
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("PATH", &self.path).env("QUEUE", &self.dir);
        command
    }

    /// The next script, its tasks and its name.
    fn pop(&mut self) -> Option<(PathBuf, Option<usize>, String)> {
        let path = self.dir.join(format!("{}.sh", self.next));
        let text = std::fs::read_to_string(&path).ok()?;
        self.next += 1;
        let option = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("#SBATCH --{name}=")));
            line.map(str::to_owned)
        };
        let tasks = option("array").map(|array| array.strip_prefix("0-").unwrap().parse::<usize>().unwrap() + 1);
        Some((path, tasks, option("job-name").unwrap()))
    }

    /// Runs everything that is and will be submitted; `skip`: tasks that are killed before they begin. What failed.
    fn run(&mut self, dir: &Path, skip: impl Fn(&str, usize) -> bool) -> Vec<String> {
        let mut failed = Vec::new();
        while let Some((path, tasks, name)) = self.pop() {
            for task in 0..tasks.unwrap_or(1) {
                if tasks.is_some() && skip(&name, task) {
                    continue;
                }
                let mut command = self.command("bash");
                command.arg(&path).current_dir(dir).env("SLURM_JOB_ID", "1");
                if tasks.is_some() {
                    command.env("SLURM_ARRAY_JOB_ID", "1").env("SLURM_ARRAY_TASK_ID", task.to_string());
                }
                let output = command.output().unwrap();
                if !output.status.success() {
                    failed.push(format!("{name} {task}: {}", stderr(&output)));
                }
            }
        }
        failed
    }
}

fn table2(queue: &Queue, dir: &Path, args: &[&str]) -> std::process::Output {
    let mut command = queue.command(example("table2"));
    command.current_dir(dir).args(["--store", "store", "--out", "out", "--spec", &tiny(), "--engine", "slurm"]);
    command.args(args).output().unwrap()
}

#[test]
fn rounds_give_the_same_bytes() {
    let (here, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run_tiny(here.path(), &["--quiet", "--jobs", "1"]);
    let mut queue = Queue::new(dir.path());
    let output = table2(&queue, dir.path(), &["--quiet"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("job 1 plans what is left"));
    // Nothing but the campaign's own files was made where it was submitted.
    assert!(!dir.path().join("store/data").exists() && !dir.path().join("out").exists());
    // One task of each first try of a round dies: the next round does it.
    let died = std::cell::RefCell::new(std::collections::BTreeSet::new());
    let failed = queue.run(dir.path(), |name, task| {
        let round = name.split('-').nth(1).unwrap().to_owned();
        task == 0 && ["2", "4"].contains(&round.as_str()) && died.borrow_mut().insert(round)
    });
    assert_eq!(died.borrow().len(), 2);
    // Tasks that wait for it say that it is not there.
    assert!(failed.iter().all(|why| why.contains("is not in the store")), "{failed:?}");
    for file in FILES {
        assert_eq!(read(dir.path(), file), read(here.path(), file), "{file}");
    }
    let status = table2(&queue, dir.path(), &["--status"]);
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("slurm: the question is answered"), "{status}");
    // A planning job that comes again when it has done its work does nothing.
    let plan = std::fs::read_dir(dir.path().join("queue"))
        .unwrap()
        .flatten()
        .map(|e| e.path())
        .find(|path| std::fs::read_to_string(path).is_ok_and(|text| text.contains("--slurm-plan=1")));
    let before = queue.next;
    assert!(queue.command("bash").arg(plan.unwrap()).current_dir(dir.path()).status().unwrap().success());
    assert_eq!((queue.run(dir.path(), |_, _| false).len(), queue.next), (0, before));
    // Again: one planning job, which finds everything.
    let before = queue.next;
    table2(&queue, dir.path(), &["--quiet"]);
    assert_eq!((queue.run(dir.path(), |_, _| false).len(), queue.next), (0, before + 1));
}

/// What dies twice has failed: its cell says so, everything else is done.
#[test]
fn what_dies_twice_has_failed() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = Queue::new(dir.path());
    assert!(table2(&queue, dir.path(), &["--quiet"]).status.success());
    // The fork's task: found by what it trains.
    let store = dir.path().join("store");
    let failed = queue.run(dir.path(), |name, task| {
        let round: u32 = name.split('-').nth(1).unwrap().parse().unwrap();
        let campaign = std::fs::read_dir(store.join("slurm")).unwrap().flatten().next().unwrap().path();
        let script = std::fs::read_to_string(campaign.join(format!("{name}.sh"))).unwrap();
        let members = script.split("--slurm-members=").nth(1).unwrap().split_whitespace().next().unwrap();
        let number: usize = members.split(',').nth(task).unwrap().parse().unwrap();
        let tasks = std::fs::read_to_string(campaign.join(format!("round-{round}.json"))).unwrap();
        let tasks: serde_json::Value = serde_json::from_str(&tasks).unwrap();
        tasks[number]["jobs"][0]["pretrain"]["label"].as_str().is_some_and(|label| label.starts_with("Starcoder"))
    });
    let last = failed.last().unwrap();
    assert!(
        last.starts_with("plan-") && last.contains("failed, everything that does not depend on them is done"),
        "{failed:?}"
    );
    assert!(last.contains("its task ended 2 times without a result"), "{last}");
    let csv = read(dir.path(), "tables/table2.csv");
    let cell = |mix: &str| csv.lines().find(|line| line.contains(mix)).unwrap().split(',').nth(4).unwrap().to_owned();
    assert!(cell("Starcoder").is_empty() && !cell(",C4,").is_empty(), "{csv}");
}

#[test]
fn scripts_are_shown_and_templates_checked() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Queue::new(dir.path());
    let template = dir.path().join("template.sh");
    std::fs::write(&template, "#!/bin/sh -l\n#SBATCH --partition=debug --gres=gpu:1\nmodule load x\n").unwrap();
    let path = template.display().to_string();
    let output = table2(&queue, dir.path(), &["--print-plan", "--slurm-template", &path]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", stderr(&output));
    for words in [
        "#!/bin/sh -l\n#SBATCH --job-name=round-1-0-tiny-table2-",
        "#SBATCH --partition=debug --gres=gpu:1\nmodule load x",
        "ARRAY0_0: finding what is held out of general",
        "#SBATCH --dependency=afterany:ARRAY0",
        "--slurm-plan=1",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!dir.path().join("queue/1.sh").exists() && !dir.path().join("out").exists());
    let refused = |text: &str, expected: &str| {
        std::fs::write(&template, text).unwrap();
        let output = table2(&queue, dir.path(), &["--slurm-template", &path]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    };
    refused("#SBATCH --mem=1G\n#SBATCH --array=1-3\n", "line 2: --array is set by the scripts themselves");
    refused(
        "module load x\n#SBATCH --mem=1G\n",
        "line 2: #SBATCH options end at the first command, which is on line 1",
    );
    let output = table2(&queue, dir.path(), &["--slurm-template", "nowhere"]);
    assert!(output.status.code() == Some(2) && stderr(&output).contains("nowhere"), "{}", stderr(&output));
    // The template that is shipped can be used as it is.
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/slurm-template.sh").display().to_string();
    assert!(table2(&queue, dir.path(), &["--print-plan", "--slurm-template", &shipped]).status.success());
    // Without a queue.
    let mut command = Command::new(example("table2"));
    command
        .current_dir(dir.path())
        .env("PATH", "/nowhere")
        .args(["--spec", &fixture("tiny.toml").display().to_string()]);
    let output = command.args(["--engine", "slurm"]).output().unwrap();
    assert!(stderr(&output).contains("sbatch: is not on this machine's PATH"), "{}", stderr(&output));
    let mut command = Command::new(example("table2"));
    let output = command.args(["--slurm-template", &shipped]).output().unwrap();
    assert!(stderr(&output).contains("needs --engine slurm"), "{}", stderr(&output));
}
