//! Prose, facts and instructions.

use super::Writer;
use crate::Document;

/// General prose: one of several registers, some paragraphs.
pub(super) fn general(w: &mut Writer<'_>) -> Document {
    let mut out = String::new();
    let register = w.below(4);
    for paragraph in 0..w.between(2, 6) {
        if paragraph > 0 {
            out += "\n";
        }
        for sentence in 0..w.between(2, 6) {
            if sentence > 0 {
                out += " ";
            }
            out += &match register {
                0 => news(w),
                1 => review(w),
                2 => story(w),
                _ => notice(w),
            };
        }
    }
    Document::plain(out)
}

fn capital(text: String) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}

fn phrase(w: &mut Writer<'_>) -> String {
    let article = w.pick(&["the", "the", "a", "this", "every", "their", "one"]);
    match w.below(3) {
        0 => format!("{article} {}", w.noun()),
        1 => format!("{article} {} {}", w.adjective(), w.noun()),
        _ => format!("{article} {} of the {}", w.noun(), w.noun()),
    }
}

fn clause(w: &mut Writer<'_>) -> String {
    let (subject, object) = (phrase(w), phrase(w));
    let verb = w.verb();
    match w.below(5) {
        0 => format!("{subject} will {verb} {object}"),
        1 => format!("{subject} did not {verb} {object}"),
        2 => format!("{subject} can {verb} near {}", w.place()),
        3 => format!("{subject} began to {verb} {object}"),
        _ => format!("{subject} used to {verb} with {object}"),
    }
}

fn news(w: &mut Writer<'_>) -> String {
    let person = w.person();
    let person = &w.lexicon.people[person];
    match w.below(4) {
        0 => {
            let place = w.place();
            let day = w.pick(&["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"]);
            format!("Officials in {place} said on {day} that {}.", clause(w))
        }
        1 => format!("{} of {} told reporters that {}.", person.name, person.born, clause(w)),
        2 => format!("About {} people saw how {}.", w.between(2, 900) * 10, clause(w)),
        _ => format!("According to the report, {}, and {}.", clause(w), clause(w)),
    }
}

fn review(w: &mut Writer<'_>) -> String {
    match w.below(4) {
        0 => format!("I bought {} last year and it is very {}.", phrase(w), w.adjective()),
        1 => format!("We liked that {}, but {}.", clause(w), clause(w)),
        2 => format!("It costs ${}.{:02} and comes with {}.", w.between(3, 400), w.between(0, 99), phrase(w)),
        _ => format!("If you want to {} your {}, this {} is for you!", w.verb(), w.noun(), w.noun()),
    }
}

fn story(w: &mut Writer<'_>) -> String {
    let person = w.person();
    let person = &w.lexicon.people[person];
    match w.below(4) {
        0 => format!("{} looked at {} and smiled.", person.name, phrase(w)),
        1 => format!("\"{},\" said {}.", capital(clause(w)), person.name),
        2 => format!("When {}, {}.", clause(w), clause(w)),
        _ => format!("{}.", capital(clause(w))),
    }
}

fn notice(w: &mut Writer<'_>) -> String {
    match w.below(4) {
        0 => format!("To {} {}, click on the {} link and choose {}.", w.verb(), phrase(w), w.noun(), w.noun()),
        1 => format!("Please note that {}.", clause(w)),
        2 => {
            format!("Our {} team in {} is open from {} to {}.", w.noun(), w.place(), w.between(6, 11), w.between(2, 9))
        }
        _ => format!("You may {} {} before {}.", w.verb(), phrase(w), phrase(w)),
    }
}

/// Edited prose: headings, definitions, numbered points.
pub(super) fn edited(w: &mut Writer<'_>) -> Document {
    let subject = w.noun();
    let mut out = format!("Chapter {}: The {}\n\n", w.between(1, 30), capital(subject.clone()));
    out += &format!(
        "A {subject} is a kind of {} that is able to {} {}. In this chapter we explain how {}.\n",
        w.noun(),
        w.verb(),
        phrase(w),
        clause(w)
    );
    for section in 1..=w.between(2, 4) {
        out += &format!("\n{section}. {} and {}\n\n", capital(w.noun()), capital(w.noun()));
        for _ in 0..w.between(2, 5) {
            out += &match w.below(4) {
                0 => format!("For example, {}. ", clause(w)),
                1 => format!("It follows that {}, because {}. ", clause(w), clause(w)),
                2 => {
                    let person = w.person();
                    let p = &w.lexicon.people[person];
                    format!(
                        "The {} {}, born in {} in {}, described this in {}. ",
                        p.trade, p.name, p.born, p.year, p.work
                    )
                }
                _ => format!("The {subject} is therefore more {} than {}. ", w.adjective(), phrase(w)),
            };
        }
        out += "\n";
    }
    Document::plain(out)
}

/// A question about the made-up world and its answer.
pub(super) fn fact(w: &mut Writer<'_>) -> Document {
    // Everyone is asked about alike: a corpus of facts hardly repeats.
    let person = w.below(w.lexicon.people.len());
    let p = &w.lexicon.people[person];
    let (question, answer) = match w.below(5) {
        0 => (format!("Where was {} born?", p.name), p.born.clone()),
        1 => (format!("In which year was {} born?", p.name), p.year.to_string()),
        2 => (format!("What was the trade of {}?", p.name), p.trade.clone()),
        3 => (format!("Who made {}?", p.work), p.name.clone()),
        _ => (format!("Which {} from {} made {}?", p.trade, p.born, p.work), p.name.clone()),
    };
    let distractors: Vec<String> = (0..w.below(4)).map(|_| w.place()).collect();
    let context = if distractors.is_empty() { String::new() } else { format!("Places: {}.\n", distractors.join(", ")) };
    Document::answered(format!("{context}Question: {question}\nAnswer: "), answer)
}

/// A task with its instruction, input and output.
pub(super) fn task(w: &mut Writer<'_>) -> Document {
    let words: Vec<String> = (0..w.between(3, 9)).map(|_| w.noun()).collect();
    let list = words.join(" ");
    let (instruction, output) = match w.below(5) {
        0 => ("Write these words in reverse order.", words.iter().rev().cloned().collect::<Vec<_>>().join(" ")),
        1 => ("How many words are there?", words.len().to_string()),
        2 => ("Write these words in capital letters.", list.to_uppercase()),
        3 => ("Which word comes last?", words[words.len() - 1].clone()),
        _ => {
            let mut sorted = words.clone();
            sorted.sort();
            ("Sort these words.", sorted.join(" "))
        }
    };
    let options = if w.below(2) == 0 { "\nOPTIONS:\n- yes\n- no" } else { "" };
    Document::answered(format!("{instruction}\nInput: {list}{options}\nOutput: "), output)
}

/// An instruction and a prose answer.
pub(super) fn answer(w: &mut Writer<'_>) -> Document {
    let ask = match w.below(3) {
        0 => format!("Explain why {}.", clause(w)),
        1 => format!("Write a short text about the {} {}.", w.adjective(), w.noun()),
        _ => format!("What should I know before I {} {}?", w.verb(), phrase(w)),
    };
    let mut text = String::new();
    for i in 1..=w.between(2, 5) {
        text += &match w.below(3) {
            0 => format!("{i}. {}.\n", capital(clause(w))),
            1 => format!("{} It helps if {}.\n", story(w), clause(w)),
            _ => format!("First of all, {}. Then, {}.\n", clause(w), clause(w)),
        };
    }
    Document::answered(format!("### Instruction:\n{ask}\n\n### Response:\n"), text.trim_end().to_owned())
}

/// A short question on nature whose answer follows from the lexicon.
pub(super) fn science_question(w: &mut Writer<'_>) -> Document {
    let (a, b) = (w.noun(), w.noun());
    // A made-up law of nature: which process links two things depends on the two alone.
    let key = xxhash_rust::xxh3::xxh3_64(format!("{a} {b}").as_bytes());
    let process = &w.lexicon.verbs[(key % 97) as usize];
    let prompt = match w.below(3) {
        0 => format!("What process turns {a} into {b}?\n"),
        1 => format!("What is it called when {a} becomes {b}?\n"),
        _ => format!("Which process do {} {a} and {b} have in common?\n", w.adjective()),
    };
    Document::answered(prompt, format!("{process}ation"))
}
