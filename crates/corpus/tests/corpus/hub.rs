//! The Hugging Face hub: its cache's layout, and, with feature `hub`, fetching from a server on this machine.

use std::path::Path;

use corpus::{HubModel, HubPath};

const COMMIT: &str = "607bd4c8450a42878aa9ddc051a65a055450ef87";

/// A cache as huggingface_hub leaves it: blobs by digest, snapshots of links.
fn cache(dir: &Path) {
    let repository = dir.join("datasets--allenai--c4");
    let snapshot = repository.join("snapshots").join(COMMIT);
    std::fs::create_dir_all(repository.join("refs")).unwrap();
    std::fs::create_dir_all(repository.join("blobs")).unwrap();
    std::fs::create_dir_all(snapshot.join("en")).unwrap();
    std::fs::write(repository.join("refs/main"), COMMIT).unwrap();
    for (i, name) in
        ["en/c4-train.00000.json.gz", "en/c4-train.00001.json.gz", "en/c4-validation.00000.json.gz", "README.md"]
            .into_iter()
            .enumerate()
    {
        let blob = repository.join(format!("blobs/{i:064x}"));
        std::fs::write(&blob, name).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(&blob, snapshot.join(name)).unwrap();
        #[cfg(not(unix))]
        std::fs::copy(&blob, snapshot.join(name)).unwrap();
    }
}

fn names(paths: &[std::path::PathBuf]) -> Vec<String> {
    paths.iter().map(|p| p.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

#[test]
fn cached_files_are_found_by_pattern_and_revision() {
    let dir = tempfile::tempdir().unwrap();
    cache(dir.path());
    let found = |text: &str| HubPath::parse(text).unwrap().cached(dir.path());
    let train = ["c4-train.00000.json.gz", "c4-train.00001.json.gz"];
    assert_eq!(names(&found("allenai/c4/en/c4-train.*").unwrap()), train);
    assert_eq!(names(&found("datasets/allenai/c4@main/en/*train*").unwrap()), train);
    assert_eq!(
        names(&found(&format!("allenai/c4@{COMMIT}/**/*-validation.*")).unwrap()),
        ["c4-validation.00000.json.gz"]
    );
    // A star does not cross folders.
    assert_eq!(names(&found("allenai/c4/*").unwrap()), ["README.md"]);
    for (text, reason) in [
        ("allenai/c4/fr/*", "matches fr/*"),
        ("allenai/c4@v9/en/*", "hf://allenai/c4@v9: is not in the cache"),
        ("allenai/c5/en/*", "hf://allenai/c5@main: is not in the cache"),
    ] {
        let message = found(text).unwrap_err().to_string();
        assert!(message.contains(reason), "{message}");
    }
    for bad in ["", "c4", "allenai/c4", "allenai/c4/", "/c4/x", "allenai/c4@/x", "../../x", "allenai/../x", "a/b/[x"] {
        assert!(HubPath::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn models_are_found_in_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let repository = dir.path().join("models--EleutherAI--pythia-70m");
    let snapshot = repository.join("snapshots").join(COMMIT);
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(repository.join("refs")).unwrap();
    std::fs::write(repository.join("refs/main"), COMMIT).unwrap();
    let found = |text: &str| HubModel::parse(text).unwrap().cached(dir.path());
    assert_eq!(found("EleutherAI/pythia-70m").unwrap(), snapshot);
    assert_eq!(found(&format!("EleutherAI/pythia-70m@{COMMIT}")).unwrap(), snapshot);
    let message = found("EleutherAI/pythia-70m@step3000").unwrap_err().to_string();
    assert!(message.contains("hf://EleutherAI/pythia-70m@step3000: is not in the cache"), "{message}");
    for bad in ["", "pythia", "/pythia", "a/", "a/b/c", "a/b@", "../b", "a/..", "a/b@../c", "a/b@c/d"] {
        assert!(HubModel::parse(bad).is_err(), "{bad}");
    }
}

#[cfg(feature = "hub")]
mod fetching {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// Answers as the hub does: the list of files, and each file in ranges.
    fn serve(listener: TcpListener) {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut lines = Vec::new();
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) <= 2 {
                    break;
                }
                lines.push(line.trim_end().to_lowercase());
            }
            let path = lines.first().and_then(|l| l.split(' ').nth(1)).unwrap_or("").to_owned();
            let body = match path.as_str() {
                "/api/datasets/tiny/facts/revision/main" => {
                    format!(
                        "{{\"sha\":\"{COMMIT}\",\"siblings\":[{{\"rfilename\":\"data/a.txt\"}},{{\"rfilename\":\"b.md\"}}]}}"
                    )
                }
                "/datasets/tiny/facts/resolve/main/data/a.txt" => "water boils\n".to_owned(),
                // Gated: for whoever shows the token.
                "/api/datasets/tiny/gated/revision/main"
                    if lines.contains(&"authorization: bearer s3cret".to_owned()) =>
                {
                    format!("{{\"sha\":\"{COMMIT}\",\"siblings\":[{{\"rfilename\":\"a.txt\"}}]}}")
                }
                "/datasets/tiny/gated/resolve/main/a.txt"
                    if lines.contains(&"authorization: bearer s3cret".to_owned()) =>
                {
                    "behind the gate\n".to_owned()
                }
                "/api/models/tiny/model/revision/v1" => {
                    let names = ["config.json", "tokenizer.json", "model.safetensors", "pytorch_model.bin"];
                    let files = names.map(|name| format!("{{\"rfilename\":\"{name}\"}}")).join(",");
                    format!("{{\"sha\":\"{COMMIT}\",\"siblings\":[{files}]}}")
                }
                file if file.starts_with("/tiny/model/resolve/v1/") => format!("{file}\n"),
                _ => String::new(),
            };
            let range =
                lines.iter().find_map(|l| l.strip_prefix("range: bytes=")?.split_once('-')).map(|(from, to)| {
                    let from: usize = from.parse().unwrap();
                    from..to.parse::<usize>().map_or(body.len(), |to| to + 1).min(body.len())
                });
            let headers = format!("etag: \"0123abcd\"\r\nx-repo-commit: {COMMIT}\r\nconnection: close\r\n");
            let mut out = stream;
            let reply = match (body.is_empty(), range) {
                (true, _) => format!("HTTP/1.1 404 Not Found\r\n{headers}content-length: 0\r\n\r\n"),
                (_, Some(range)) => format!(
                    "HTTP/1.1 206 Partial Content\r\n{headers}content-range: bytes {}-{}/{}\r\ncontent-length: {}\r\n\r\n{}",
                    range.start,
                    range.end - 1,
                    body.len(),
                    range.len(),
                    &body[range.clone()]
                ),
                (_, None) => format!("HTTP/1.1 200 OK\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()),
            };
            let _ = out.write_all(reply.as_bytes());
        }
    }

    #[test]
    fn files_are_fetched_into_the_cache() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(|| serve(listener));
        let dir = tempfile::tempdir().unwrap();
        let path = HubPath::parse("tiny/facts/data/*").unwrap();
        let fetched = path.fetch(dir.path(), Some(&endpoint), None).unwrap();
        assert_eq!(std::fs::read_to_string(&fetched[0]).unwrap(), "water boils\n");
        // From now on it is in the cache.
        assert_eq!(names(&path.cached(dir.path()).unwrap()), ["a.txt"]);
        let missing = HubPath::parse("tiny/lies/data/*").unwrap().fetch(dir.path(), Some(&endpoint), None);
        assert!(missing.unwrap_err().to_string().contains("hf://tiny/lies@main"));
        // A gate opens to a token.
        let gated = HubPath::parse("tiny/gated/*.txt").unwrap();
        assert!(gated.fetch(dir.path(), Some(&endpoint), None).is_err());
        let fetched = gated.fetch(dir.path(), Some(&endpoint), Some("s3cret")).unwrap();
        assert_eq!(std::fs::read_to_string(&fetched[0]).unwrap(), "behind the gate\n");
        // A model: its configuration, tokenizer and safetensors, nothing else.
        let model = HubModel::parse("tiny/model@v1").unwrap();
        let folder = model.fetch(dir.path(), Some(&endpoint), None).unwrap();
        assert_eq!(folder, model.cached(dir.path()).unwrap());
        let mut files: Vec<String> =
            std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        files.sort_unstable();
        assert_eq!(files, ["config.json", "model.safetensors", "tokenizer.json"]);
    }
}
