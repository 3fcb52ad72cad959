//! Inputs that other programs read wrongly, and that this one once did: each is right, or an error that says what is wrong.
//! Beside each input that went wrong others of its kind.

use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use corpus::{
    Document, Escapes, Format, NotReadReason, OnMalformed, ReadError, ReadReport, SourceFiles, Template, TextUnit,
    ToolCalls, Turn,
};

fn set() -> SourceFiles {
    SourceFiles::matching(["."])
}

fn file(dir: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path
}

fn read_as(set: &SourceFiles, name: &str, bytes: impl AsRef<[u8]>) -> Result<(Vec<Document>, ReadReport), String> {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), name, bytes);
    let mut documents = Vec::new();
    let report = set.read(&path, &mut |document| {
        documents.push(document);
        ControlFlow::Continue(())
    });
    report.map(|report| (documents, report)).map_err(|e: ReadError| e.to_string())
}

fn read(name: &str, bytes: impl AsRef<[u8]>) -> Result<Vec<Document>, String> {
    read_as(&set(), name, bytes).map(|(documents, _)| documents)
}

fn texts(name: &str, bytes: impl AsRef<[u8]>) -> Vec<String> {
    read(name, bytes).unwrap().iter().map(Document::whole).collect()
}

#[track_caller]
fn refused(result: Result<Vec<Document>, String>, reason: &str) {
    let message = result.unwrap_err();
    assert!(message.contains(reason), "{message}");
}

fn template(toml: &str) -> SourceFiles {
    SourceFiles { template: Some(toml::from_str(toml).unwrap()), ..set() }
}

fn turn(prompt: &str, text: &str) -> Turn {
    Turn { prompt: prompt.into(), text: text.into() }
}

/// Case unknown-role: roles in any case of letters, all that are known, and none that is not.
#[test]
fn chat_roles_are_known_or_refused() {
    let caps = r#"{"messages":[{"role":"User","content":"Hi"},{"role":"Assistant","content":"Hello"}]}"#;
    assert_eq!(read("caps.jsonl", caps).unwrap(), [Document::answered("Hi\n", "Hello")]);
    let shared = r#"{"conversations":[{"from":"human","value":"Name a lake."},{"from":"gpt","value":"Lake Como."},{"from":"human","value":"Another?"},{"from":"bing","value":"Lake Van."},{"from":"human","value":"One more."},{"from":"chatgpt","value":"Loch Ness."}]}"#;
    let later = vec![turn("\nAnother?\n", "Lake Van."), turn("\nOne more.\n", "Loch Ness.")];
    assert_eq!(
        read("s.jsonl", shared).unwrap(),
        [Document { later, ..Document::answered("Name a lake.\n", "Lake Como.") }]
    );
    let unknown = r#"{"messages":[{"role":"user","content":"Hi"},{"role":"narrator","content":"He spoke."}]}"#;
    refused(read("u.jsonl", unknown), "u.jsonl:1: turn 1: role \"narrator\" is not known; answers: assistant, gpt");
    for (roles, expected) in [
        ("answer_roles = [\"Narrator\"]", Document::answered("Hi\n", "He spoke.")),
        ("answer_roles = [\"user\"]\nprompt_roles = [\"narrator\"]", Document::plain("Hi")),
    ] {
        let set = template(&format!("turns = \"messages\"\n{roles}"));
        assert_eq!(read_as(&set, "u.jsonl", unknown).unwrap().0, [expected]);
    }
    // Skipped, it is counted; without any answer there is no text.
    let skipping = SourceFiles { malformed: OnMalformed::Skip, ..set() };
    assert_eq!(read_as(&skipping, "u.jsonl", unknown).unwrap().1.skipped, 1);
    let silent = r#"{"messages":[{"role":"user","content":"Hi"}]}"#;
    assert_eq!(read_as(&set(), "s.jsonl", silent).unwrap().1.blank, 1);
    let unanswered = format!("{}\n", caps.replace("]}", ",{\"role\":\"user\",\"content\":\"And?\"}]}"));
    let (documents, report) = read_as(&set(), "o.jsonl", &unanswered).unwrap();
    assert_eq!(documents, [Document::answered("Hi\n", "Hello")]);
    assert!(report.left_out()[0].contains("1 conversations whose last prompt has no answer"), "{report:?}");
    for broken in
        ["answer_roles = [\"a\"]\ntext = \"{b}\"", "turns = \"m\"\nanswer_roles = [\"a\"]\nprompt_roles = [\"a\"]"]
    {
        assert!(toml::from_str::<Template>(broken).is_err(), "{broken}");
    }
}

/// Case tool-calls: what is no text is an error, or what the template says.
#[test]
fn calls_of_tools_do_not_vanish() {
    let record = r#"{"messages":[{"role":"user","content":"Rain in Bergen?"},{"role":"assistant","content":null,"tool_calls":[{"type":"function","function":{"name":"rain","arguments":"{\"town\":\"Bergen\"}"}}]},{"role":"tool","content":"yes"},{"role":"assistant","content":"Yes, take a coat."}]}"#;
    refused(read("in.jsonl", record), "in.jsonl:1: turn 1: calls tools, which is no text: the template's tool_calls");
    let with = |calls: &str| template(&format!("turns = \"messages\"\ntool_calls = \"{calls}\""));
    let json = read_as(&with("json"), "in.jsonl", record).unwrap().0;
    let call = r#"{"name":"rain","arguments":"{\"town\":\"Bergen\"}"}"#;
    let later = vec![turn("\nyes\n", "Yes, take a coat.")];
    assert_eq!(json, [Document { later, ..Document::answered("Rain in Bergen?\n", call) }]);
    let (_, report) = read_as(&with("leave_out"), "in.jsonl", record).unwrap();
    assert_eq!(report.left_out(), ["1 turns whose calls of tools are left out"]);
    // The older field; several calls; a text beside them; content that is missing, not null.
    let older = r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"So:","function_call":{"name":"f","arguments":"{}"}}]}"#;
    refused(read("o.jsonl", older), "calls tools");
    let document = read_as(&with("json"), "o.jsonl", older).unwrap().0.remove(0);
    assert_eq!(document.text, "So:\n{\"name\":\"f\",\"arguments\":\"{}\"}");
    let several = r#"{"messages":[{"role":"user","content":"q"},{"role":"assistant","tool_calls":[{"id":"1","name":"f"},{"id":"2","name":"g"}]}]}"#;
    let document = read_as(&with("json"), "o.jsonl", several).unwrap().0.remove(0);
    assert_eq!(document.text, "{\"id\":\"1\",\"name\":\"f\"}\n{\"id\":\"2\",\"name\":\"g\"}");
    // None is none.
    for none in ["null", "[]"] {
        let record = format!(
            r#"{{"messages":[{{"role":"user","content":"q"}},{{"role":"assistant","content":"a","tool_calls":{none}}}]}}"#
        );
        assert_eq!(texts("n.jsonl", record), ["q\na"]);
    }
    assert!(toml::from_str::<Template>("text = \"{a}\"\ntool_calls = \"json\"").is_err());
    assert_eq!(ToolCalls::default(), ToolCalls::Refuse);
}

/// Content in parts is their texts; what is no text is an error; further fields of a turn are noted.
#[test]
fn contents_in_parts() {
    let with = |content: &str| {
        format!(r#"{{"messages":[{{"role":"user","content":"q"}},{{"role":"assistant","content":{content}}}]}}"#)
    };
    assert_eq!(texts("p.jsonl", with(r#"[{"type":"text","text":"a"},{"type":"text","text":"b"}]"#)), ["q\na\nb"]);
    refused(
        read("p.jsonl", with(r#"[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"x"}}]"#)),
        "turn 1: has a part of type \"image_url\", which is no text",
    );
    refused(read("p.jsonl", with(r#"{"inner":"a"}"#)), "a field that is a group of fields");
    let thinking = r#"{"messages":[{"role":"user","content":"q","name":"Ada"},{"role":"assistant","content":"a","reasoning_content":"hm"}]}"#;
    let (_, report) = read_as(&set(), "t.jsonl", thinking).unwrap();
    assert_eq!(report.left_out(), ["1 turns whose field \"reasoning_content\" is not read"]);
    for broken in [r#"[3]"#, r#"[["a","b"]]"#, r#"[{"content":"a"}]"#, "\"text\"", "{}"] {
        assert!(read("b.jsonl", format!(r#"{{"messages":{broken},"x":1}}"#)).is_err(), "{broken}");
    }
}

/// Case missing-pattern: each pattern means something.
#[test]
fn every_pattern_matches_something() {
    let dir = tempfile::tempdir().unwrap();
    file(dir.path(), "a.jsonl", "{\"text\":\"a\"}");
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    for missing in
        ["b-*.jsonl", "b.jsonl", "empty", "**/*.csv", "none/*.jsonl", "c[0-9].jsonl", "a.jsonl/x", "empty/**"]
    {
        for files in [vec!["a.jsonl", missing], vec![missing, "a.jsonl"]] {
            let message = SourceFiles::matching(files).paths(dir.path()).unwrap_err().to_string();
            assert!(message.contains("no file matches") && message.contains(missing), "{missing}: {message}");
        }
    }
    let broken = SourceFiles::matching(["a[.jsonl"]).paths(dir.path()).unwrap_err().to_string();
    assert!(broken.contains("a[.jsonl"), "{broken}");
    assert!(SourceFiles::matching([""; 0]).paths(dir.path()).unwrap_err().to_string().contains("files = []"));
}

/// Case brackets: what there is by the very name is meant; patterns are patterns, also below a folder with brackets.
#[test]
fn names_with_brackets_are_names() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("run [1]*");
    for name in ["c4[2].jsonl", "c42.jsonl", "d[x]/e.jsonl", "d*/e.jsonl", "what?.jsonl"] {
        file(&base, name, "{\"text\":\"a\"}");
    }
    let found = |pattern: &str| {
        let found = SourceFiles::matching([pattern]).paths(&base).unwrap();
        found.iter().map(|p| p.strip_prefix(&base).unwrap().display().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(found("c4[2].jsonl"), ["c4[2].jsonl"]);
    assert_eq!(found("c4[[]2].jsonl"), ["c4[2].jsonl"]);
    assert_eq!(found("c4?.jsonl"), ["c42.jsonl"]);
    assert_eq!(found("what?.jsonl"), ["what?.jsonl"]);
    assert_eq!(found("d[x]/*.jsonl"), ["d[x]/e.jsonl"]);
    assert_eq!(found("d[[]x]/*.jsonl"), ["d[x]/e.jsonl"]);
    assert_eq!(found("d*/e.jsonl"), ["d*/e.jsonl"]);
    assert_eq!(found("[cw]*.jsonl"), ["c42.jsonl", "c4[2].jsonl", "what?.jsonl"]);
}

/// Case broken-link: a folder is read whole; what is not read is listed; a link that leads nowhere is an error.
#[cfg(unix)]
#[test]
fn nothing_in_a_folder_is_passed_over_silently() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path();
    let json = "{\"text\":\"a\"}\n";
    file(base, "part-0.jsonl", json);
    file(base, "more/part-2.jsonl", json);
    file(base, "part-3.jsonl.zstd", zstd::encode_all(json.as_bytes(), 1).unwrap());
    file(base, "part-4.ndjson", json);
    file(base, "README.md", "x");
    file(base, ".part-9.jsonl", json);
    file(base, ".git/x.jsonl", json);
    symlink("gone.jsonl", base.join("part-1.jsonl")).unwrap();
    for pattern in [".", "", "*.jsonl", "part-1.jsonl", "**/*.jsonl"] {
        let message = SourceFiles::matching([pattern]).find(base).unwrap_err().to_string();
        assert!(
            message.contains("part-1.jsonl") && message.contains("is a link to gone.jsonl"),
            "{pattern}: {message}"
        );
    }
    std::fs::remove_file(base.join("part-1.jsonl")).unwrap();
    // Links to files and folders are followed, those back into what is being read are not.
    symlink("part-0.jsonl", base.join("same.jsonl")).unwrap();
    symlink("..", base.join("more/up")).unwrap();
    symlink(".", base.join("loop")).unwrap();
    let found = |pattern: &str| {
        let found = SourceFiles::matching([pattern]).find(base).unwrap();
        let name = |p: &Path| p.strip_prefix(base).unwrap_or(p).display().to_string();
        let files = found.files.iter().map(|p| name(p)).collect::<Vec<_>>();
        let over = found.passed_over.iter().map(|o| name(&o.path)).collect::<Vec<_>>();
        assert!(found.passed_over.iter().all(|o| !o.to_string().is_empty()));
        (files, over)
    };
    let (files, over) = found("");
    assert_eq!(files, ["more/part-2.jsonl", "part-0.jsonl", "part-3.jsonl.zstd", "part-4.ndjson"]);
    assert_eq!(over, [".git", ".part-9.jsonl", "README.md", "loop", "more/up", "same.jsonl"]);
    let (files, over) = found("**/*.jsonl");
    assert_eq!(files, ["more/part-2.jsonl", "part-0.jsonl"]);
    assert!(over.contains(&"loop".to_owned()) && over.contains(&".part-9.jsonl".to_owned()), "{over:?}");
    // Nor is one to what the folder lies in, wherever reading begins.
    let (files, over) = found("more/**");
    assert_eq!((files.len(), over), (1, vec!["more/up".to_owned()]));
    std::fs::remove_file(base.join("more/up")).unwrap();
    assert_eq!(found("more/**").0, ["more/part-2.jsonl"]);
    assert_eq!(found("*.jsonl").0, ["part-0.jsonl"]);
    assert_eq!(found(".part*").0, [".part-9.jsonl"]);
    assert!(found("p*").1.is_empty());
    let over = SourceFiles::matching(["more*"]).find(base).unwrap_err().to_string();
    assert!(over.contains("is a folder"), "{over}");
    // A device and a pipe are no files.
    let message = SourceFiles::matching(["/dev/null"]).find(base).unwrap_err().to_string();
    assert!(message.contains("is no regular file"), "{message}");
}

/// A file is read once, by however many names and patterns it is meant.
#[test]
fn a_file_named_twice_is_read_once() {
    let dir = tempfile::tempdir().unwrap();
    file(dir.path(), "a/b.jsonl", "{\"text\":\"a\"}");
    let found =
        SourceFiles::matching(["a", "a/*", "a/b.jsonl", "./a/b.jsonl", "a/../a/b.jsonl"]).find(dir.path()).unwrap();
    assert_eq!(found.files.len(), 1, "{found:?}");
    assert!(found.passed_over.iter().all(|over| matches!(over.why, NotReadReason::Same(_))), "{found:?}");
}

/// Case parquet-binary: a column of bytes is text where it is UTF-8, and an error where it is not.
#[test]
fn parquet_bytes_are_text_or_refused() {
    use parquet::data_type::{ByteArray, ByteArrayType};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    let write = |texts: &[&[u8]]| {
        let schema = parse_message_type("message m { required binary text; }").unwrap();
        let mut out = Vec::new();
        let mut writer =
            SerializedFileWriter::new(&mut out, schema.into(), WriterProperties::builder().build().into()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let values: Vec<ByteArray> = texts.iter().map(|t| ByteArray::from(t.to_vec())).collect();
        column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
        out
    };
    assert_eq!(texts("in.parquet", write(&["Grüße, Welt".as_bytes(), b"two"])), ["Grüße, Welt", "two"]);
    let latin = write(&[b"fine", b"Gr\xfc\xdfe"]);
    refused(read("latin.parquet", &latin), "latin.parquet:2: a column of bytes that are no text");
    let skipping = SourceFiles { malformed: OnMalformed::Skip, ..set() };
    assert_eq!(read_as(&skipping, "latin.parquet", &latin).unwrap().1.skipped, 1);
}

/// Case tsv-latex: a backslash is a backslash, unless the set says otherwise.
#[test]
fn backslashes_in_tables_are_text() {
    let row = "Differentiate.\tUse $\\nabla$ and $\\theta$, see C:\\new\\table.\n";
    let (documents, report) = read_as(&set(), "in.tsv", row).unwrap();
    assert_eq!(documents, [Document::answered("Differentiate.\n", "Use $\\nabla$ and $\\theta$, see C:\\new\\table.")]);
    assert!(report.left_out()[0].contains("1 rows with \\n written out, read as they are"), "{report:?}");
    let flan = SourceFiles { escapes: Escapes::Backslash, ..set() };
    let (documents, _) = read_as(&flan, "f.tsv", "a\\nb\tc\\td\\\\e\\r\\x\n").unwrap();
    assert_eq!(documents, [Document::answered("a\nb\n", "c\td\\e\r\\x")]);
    // Quotes too are text in such files; in .csv a backslash always is.
    assert_eq!(texts("q.tsv", "\"a\"\tb\\\"c\n"), ["\"a\"\nb\\\"c"]);
    assert_eq!(texts("q.csv", "text\n\"\\nabla \\t\"\n"), ["\\nabla \\t"]);
    assert_eq!(texts("q.txt", "\\nabla\n"), ["\\nabla"]);
    let files: SourceFiles = toml::from_str("files = [\"a\"]\nescapes = \"backslash\"").unwrap();
    assert_eq!(files.escapes, Escapes::Backslash);
}

/// Case blank-uncounted: records without text are counted, and where the first is is said.
#[test]
fn records_without_text_are_counted() {
    let null = "{\"prompt\":\"p1\",\"completion\":null}\n".repeat(4) + "{\"prompt\":\"p5\",\"completion\":\"c5\"}\n";
    for (name, text, blank, first) in [
        ("in.jsonl", null.as_str(), 4, "in.jsonl:1"),
        ("a.jsonl", "{\"text\":\"a\"}\n\n{\"text\":\" \\n\"}\n{\"text\":\"\"}\n", 2, "a.jsonl:3"),
        ("b.csv", "question,answer\nq,a\nq,\nq,\" \"\n", 2, "b.csv:3"),
        ("c.tsv", "q\ta\nq\t\n", 1, "c.tsv:2"),
        ("d.json", "[{\"text\":\"a\"},{\"text\":[]},{\"text\":null}]", 2, "d.json:2"),
        ("e.jsonl", "{\"text\":\"a\"}\n{\"text\":\"\u{3000}\"}\n", 1, "e.jsonl:2"),
    ] {
        let (documents, report) = read_as(&set(), name, text).unwrap();
        assert_eq!((documents.len() as u64, report.blank), (1, blank), "{name}");
        assert!(report.first_blank.as_ref().unwrap().ends_with(first), "{report:?}");
        assert!(report.left_out()[0].starts_with(&format!("{blank} records without text, the first: ")), "{report:?}");
    }
    // What filters leave out is counted too.
    let only = SourceFiles { only: [("lang".to_owned(), vec!["en".to_owned()])].into(), ..set() };
    let (_, report) =
        read_as(&only, "f.jsonl", "{\"text\":\"a\",\"lang\":\"en\"}\n{\"text\":\"b\",\"lang\":\"de\"}\n").unwrap();
    assert_eq!((report.documents, report.filtered), (1, 1));
    // Empty files hold nothing, and blank lines of text are no records.
    for (name, text) in [("a.txt", "\n \n"), ("a.jsonl", ""), ("a.json", "[]"), ("a.csv", "text\n"), ("a.tsv", "")] {
        assert_eq!(read_as(&set(), name, text).unwrap().1, ReadReport::default(), "{name}");
    }
}

/// Case bom: a byte-order mark is no text; other encodings are refused by name.
#[test]
fn marks_are_no_text_and_encodings_are_named() {
    for (name, text, expected) in [
        ("in.txt", "First.\nSecond.\n", vec!["First.", "Second."]),
        ("in.jsonl", "{\"text\":\"First.\"}\n", vec!["First."]),
        ("in.json", "[{\"text\":\"First.\"}]", vec!["First."]),
        ("in.csv", "text\nFirst.\n", vec!["First."]),
        ("in.tsv", "First.\n", vec!["First."]),
    ] {
        let marked = format!("\u{feff}{text}");
        assert_eq!(texts(name, &marked), expected);
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(marked.as_bytes()).unwrap();
        assert_eq!(texts(&format!("{name}.gz"), gz.finish().unwrap()), expected);
        assert_eq!(texts(&format!("{name}.zst"), zstd::encode_all(marked.as_bytes(), 1).unwrap()), expected);
        // A name in the header has no mark either.
        for (encoding, bytes) in [
            ("UTF-16LE", text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>()),
            ("UTF-16BE", text.encode_utf16().flat_map(u16::to_be_bytes).collect()),
            ("UTF-32LE", text.chars().flat_map(|c| (c as u32).to_le_bytes()).collect()),
            ("UTF-32BE", text.chars().flat_map(|c| (c as u32).to_be_bytes()).collect()),
        ] {
            refused(read(name, &bytes), &format!("is {encoding}; convert it to UTF-8"));
            let mark = match encoding {
                "UTF-16LE" => &b"\xff\xfe"[..],
                "UTF-16BE" => b"\xfe\xff",
                "UTF-32LE" => b"\xff\xfe\0\0",
                _ => b"\0\0\xfe\xff",
            };
            refused(read(name, [mark, &bytes].concat()), &format!("is {encoding}"));
        }
    }
    // Files that were joined; text that has such a letter inside.
    assert_eq!(texts("j.jsonl", "\u{feff}{\"text\":\"a\"}\n\u{feff}{\"text\":\"b\"}\n"), ["a", "b"]);
    assert_eq!(texts("i.txt", "a\u{feff}b\n"), ["a\u{feff}b"]);
    assert_eq!(texts("e.txt", "\u{feff}"), [""; 0]);
}

/// Text is what is between the line ends: spaces before and after it are text.
#[test]
fn lines_keep_their_spaces() {
    assert_eq!(texts("a.txt", "  if x:\r\n\treturn  \n"), ["  if x:", "\treturn  "]);
    let file = SourceFiles { unit: TextUnit::File, ..set() };
    assert_eq!(read_as(&file, "a.txt", " a\r\n\n").unwrap().0, [Document::plain(" a\r\n\n")]);
}

/// Archives as tape programs leave them, and with the largest windows.
#[test]
fn padded_joined_and_wide_archives() {
    let gz = |text: &str| {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(text.as_bytes()).unwrap();
        out.finish().unwrap()
    };
    let two = [gz("one\n"), gz(""), gz("two\n")].concat();
    assert_eq!(texts("a.txt.gz", &two), ["one", "two"]);
    assert_eq!(texts("a.txt.gz", [&two[..], &[0; 100_000]].concat()), ["one", "two"]);
    assert_eq!(texts("a.txt.gzip", &two), ["one", "two"]);
    for rubbish in [[&two[..], b"rubbish"].concat(), [&two[..], &[0; 10], b"rubbish"].concat()] {
        refused(read("a.txt.gz", rubbish), "truncated or damaged");
    }
    let mut wide = zstd::Encoder::new(Vec::new(), 1).unwrap();
    wide.window_log(31).unwrap();
    wide.long_distance_matching(true).unwrap();
    wide.write_all(b"one\ntwo\n").unwrap();
    assert_eq!(texts("a.txt.zst", wide.finish().unwrap()), ["one", "two"]);
    refused(read("a.txt", gz("one\n")), "is a compressed file; its name must end in .gz");
    refused(read("a.jsonl", zstd::encode_all(&b"{}"[..], 1).unwrap()), "its name must end in .zst");
}

/// Digits are kept as they are written, however many; what stands twice is an error.
#[test]
fn numbers_and_names_are_not_changed() {
    let set = template("text = \"{id} {price}\"");
    for (name, text) in [
        ("n.jsonl", "{\"id\":12345678901234567890123,\"price\":1.10}\n"),
        ("n.json", "[{\"id\":12345678901234567890123,\"price\":1.10}]"),
        ("n.csv", "id,price\n12345678901234567890123,1.10\n"),
    ] {
        assert_eq!(read_as(&set, name, text).unwrap().0, [Document::plain("12345678901234567890123 1.10")]);
    }
    refused(read("t.jsonl", "{\"text\":\"a\",\"text\":\"b\"}"), "t.jsonl:1: the field \"text\" stands in it twice");
    refused(read("t.csv", "text,text\na,b\n"), "the column name \"text\" stands in the first line twice");
    let headed = SourceFiles { header: Some(true), ..self::set() };
    let message = read_as(&headed, "t.tsv", "text\ttext\na\tb\n").unwrap_err();
    assert!(message.contains("stands in the first line twice"), "{message}");
}

/// A field is found by its whole name, whatever is in it.
#[test]
fn names_with_dots_and_brackets_are_found() {
    let record = r#"{"a.b":"dot","a":{"b":"nested","c.d":{"e":"deep"}},"l[0]":"bracket","l":["first"],"x|y":"bar","0":"digit","f.g":{"h":"in"}}"#;
    for (field, text) in [
        ("{a.b}", "dot"),
        ("{a.c.d.e}", "deep"),
        ("{l[0]}", "bracket"),
        ("{x|y}", "bar"),
        ("{0}", "digit"),
        ("{f.g.h}", "in"),
        ("{l}", "first"),
    ] {
        let set = template(&format!("text = \"{field}\""));
        assert_eq!(read_as(&set, "r.jsonl", record).unwrap().0, [Document::plain(text)], "{field}");
    }
    let only = SourceFiles {
        only: [("meta.lang".to_owned(), vec!["en".to_owned()])].into(),
        ..template("text = \"{text.en}\"")
    };
    let csv = "text.en,meta.lang\nhello,en\nbonjour,fr\n";
    assert_eq!(read_as(&only, "c.csv", csv).unwrap().0, [Document::plain("hello")]);
}

/// Where fields of several layouts compete none is guessed.
#[test]
fn competing_fields_are_no_guess() {
    refused(
        read("a.jsonl", "{\"text\":\"t\",\"content\":\"c\"}"),
        "a.jsonl:1: its fields fit two layouts, text and content",
    );
    refused(
        read("a.csv", "question,answer,context\nq,a,\nq,a,c\n"),
        "a.csv:3: was recognised by question + answer, but context holds text too",
    );
    let given = SourceFiles { template: Some(Template::parse("", "{content}").unwrap()), ..set() };
    assert_eq!(read_as(&given, "a.jsonl", "{\"text\":\"t\",\"content\":\"c\"}").unwrap().0, [Document::plain("c")]);
}

/// A given format reads any name; a compressed Parquet file is none.
#[test]
fn formats_can_be_given() {
    let jsonl = SourceFiles { format: Some(Format::Jsonl), ..set() };
    assert_eq!(read_as(&jsonl, "part-00000", "{\"text\":\"a\"}").unwrap().0, [Document::plain("a")]);
    let dir = tempfile::tempdir().unwrap();
    file(dir.path(), "part-00000", "{\"text\":\"a\"}");
    assert_eq!(jsonl.paths(dir.path()).unwrap().len(), 1);
    refused(read("a.bz2", "x"), "unknown format; known: .txt, .jsonl, .ndjson");
}

/// Quotes that do not close, or close too early, would move or lose text: they end the reading.
#[test]
fn broken_quotes_in_tables_are_errors() {
    let skipping = SourceFiles { malformed: OnMalformed::Skip, ..set() };
    for (csv, reason) in [
        ("text\nfine\n\"never closed\nthis\nand that\n", "t.csv:3: a quote that begins a column is never closed"),
        ("text,n\na,\"1\nb,2\n", "t.csv:2: a quote that begins a column is never closed"),
        ("text,n\n\"Hello\" he said,1\n", "t.csv:2: text follows the quote that ends a column"),
        ("text\n\"a\"\"\" b\n", "t.csv:2: text follows the quote"),
    ] {
        refused(read("t.csv", csv), reason);
        let message = read_as(&skipping, "t.csv", csv).unwrap_err();
        assert!(message.contains(reason), "{message}");
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(csv.as_bytes()).unwrap();
        let message = read("t.csv.gz", gz.finish().unwrap()).unwrap_err();
        assert!(message.contains(&reason[5..]), "{message}");
    }
    // What RFC 4180 allows, and a quote inside a column that does not begin with one.
    let csv = "text,n\r\n\"a \"\"b\"\", c\nd\",1\r\n5\" pipe,2\r\n\"\",3\r\n\"e\",\"4\"";
    let set = template("text = \"{text}\"");
    let texts: Vec<String> = read_as(&set, "t.csv", csv).unwrap().0.into_iter().map(|d| d.text).collect();
    assert_eq!(texts, ["a \"b\", c\nd", "5\" pipe", "e"]);
    // Column names that cannot be read are an error whatever the policy.
    for (name, header) in [("h.csv", None), ("h.tsv", Some(true))] {
        let skipping = SourceFiles { header, ..skipping.clone() };
        let message = read_as(&skipping, name, b"te\xffxt\nfirst\nsecond\n").unwrap_err();
        assert!(message.contains("is not UTF-8"), "{message}");
    }
}

/// What a recognised layout does not read of a record is told.
#[test]
fn fields_that_are_not_read_are_told() {
    let left_out = |json: &str| read_as(&set(), "f.jsonl", json).unwrap().1.left_out();
    assert_eq!(
        left_out("{\"text\":\"a\",\"title\":\"t\",\"id\":3,\"none\":null}\n{\"text\":\"b\",\"title\":\"u\"}\n"),
        ["1 records whose field \"id\" is not read", "2 records whose field \"title\" is not read"]
    );
    assert_eq!(
        left_out("{\"instruction\":\"i\",\"output\":\"o\",\"answer\":\"a\"}"),
        ["1 records whose answer is not read beside their output"]
    );
    assert_eq!(
        left_out("{\"question\":\"q\",\"answer\":[\"a\",\"b\"]}"),
        ["1 records with several answers, of which the first is read"]
    );
    assert_eq!(
        left_out(
            "{\"instruction\":\"i\",\"instances\":[{\"input\":\"\",\"output\":\"a\"},{\"input\":\"\",\"output\":\"b\"}]}"
        ),
        ["1 records with several instances, of which the first is read"]
    );
    // A template says what is meant.
    assert!(
        read_as(&template("text = \"{text}\""), "f.jsonl", "{\"text\":\"a\",\"title\":\"t\"}")
            .unwrap()
            .1
            .left_out()
            .is_empty()
    );
    // Answers as a text or a list, in one file.
    let mixed = "{\"question\":\"q\",\"answer\":\"a\"}\n{\"question\":\"q\",\"answer\":[\"b\",\"c\"]}\n";
    assert_eq!(texts("m.jsonl", mixed), ["q\na", "q\nb"]);
}

/// Turns in shapes that tables give: nulls beside the value that is meant, parts that are none.
#[test]
fn nulls_in_turns_are_no_text() {
    let with = |turn: &str| format!(r#"{{"messages":[{{"role":"user","content":"q"}},{turn}]}}"#);
    assert_eq!(texts("a.jsonl", with(r#"{"role":"assistant","content":null,"value":"a"}"#)), ["q\na"]);
    let image = r#"{"role":"assistant","content":[{"type":"image","text":null,"image":{"url":"x"}}]}"#;
    refused(read("a.jsonl", with(image)), "has a part of type \"image\", which is no text");
    // Answers after one another are not one word; a turn of weight 0 is told.
    let two = r#"{"role":"assistant","content":"a","weight":0},{"role":"assistant","content":"b"}"#;
    let (documents, report) = read_as(&set(), "a.jsonl", with(two)).unwrap();
    assert_eq!(documents[0].whole(), "q\na\nb");
    assert_eq!(report.left_out(), ["1 turns of weight 0 (read like others)"]);
}

/// A turn without content is left out, and told; a link to what a folder lies in is not followed.
#[test]
fn what_is_nothing_is_told() {
    let chat = r#"{"messages":[{"role":"system","content":null},{"role":"user","content":"q"},{"role":"assistant","content":"y"},{"role":"user","content":"r"},{"role":"assistant","content":null}]}"#;
    let (documents, report) = read_as(&set(), "n.jsonl", chat).unwrap();
    assert_eq!(documents, [Document::answered("q\n", "y")]);
    assert_eq!(report.left_out().len(), 2, "{report:?}");
    assert!(report.left_out()[1].contains("2 turns without content (left out)"), "{report:?}");
    // Nobody can tell what three columns are; plain text has no fields.
    refused(read("t.tsv", "id\ttitle\tbody\n"), "t.tsv:1: no known layout has 3 columns: give a template");
    let message = read_as(&template("text = \"{text}\""), "t.txt", "a\n").unwrap_err();
    assert!(message.contains("t.txt is plain text, which has no fields"), "{message}");
    refused(read("p.jsonl", "{\n  \"text\": \"a\"\n}\n"), "p.jsonl:1: malformed JSON");
    refused(read("p.jsonl", "{\n"), "format = \"json\" reads those");
    refused(read("p.txt.gz", "plain"), "is no compressed file, though its name ends as one (.gz)");
}

/// What lies in a folder whose name begins with a dot is listed by the folder.
#[test]
fn hidden_folders_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a.jsonl", ".cache/b.jsonl", "in/.x/c.jsonl"] {
        file(dir.path(), name, "{\"text\":\"a\"}");
    }
    let found = SourceFiles::matching(["**/*.jsonl"]).find(dir.path()).unwrap();
    assert_eq!(found.files.len(), 1);
    let over: Vec<_> =
        found.passed_over.iter().map(|o| (o.path.strip_prefix(dir.path()).unwrap().to_owned(), &o.why)).collect();
    assert_eq!(over, [(".cache".into(), &NotReadReason::Hidden), ("in/.x".into(), &NotReadReason::Hidden)]);
    assert_eq!(SourceFiles::matching([".cache/*.jsonl"]).paths(dir.path()).unwrap().len(), 1);
}
