//! Worked arithmetic: every step is right.

use super::Writer;
use crate::Document;

/// Drills and problems with their steps.
pub(super) fn worked(w: &mut Writer<'_>) -> Document {
    if w.below(2) == 0 {
        let problem = problem(w);
        let steps = problem.steps.iter().zip(&problem.reasons);
        let steps: Vec<String> = steps.map(|((a, op, b, r), why)| format!("{why} {a} {op} {b} = {r}.")).collect();
        let text = format!("{}\nThe answer is {}.", steps.join("\n"), problem.answer());
        return Document::answered(format!("{}\n", problem.question), text);
    }
    let mut lines = Vec::new();
    for _ in 0..w.between(2, 6) {
        let (a, b) = (w.between(2, 99), w.between(2, 99));
        lines.push(match w.below(5) {
            0 => format!("What is {a} + {b}? {a} + {b} = {}.", a + b),
            1 => format!("What is {} - {b}? {} - {b} = {a}.", a + b, a + b),
            2 => format!("Calculate {a} * {b}. {a} * {b} = {}.", a * b),
            3 => format!("Divide {} by {b}. {} / {b} = {a}.", a * b, a * b),
            _ => {
                let x = w.between(2, 12);
                format!("Solve {b} * x + {a} = {} for x. {b} * x = {}. x = {x}.", b * x + a, b * x)
            }
        });
    }
    Document::plain(lines.join("\n"))
}

/// A problem in words, its steps with the calculator marks of GSM8K, `#### answer`.
pub(super) fn word_problem(w: &mut Writer<'_>) -> Document {
    let problem = problem(w);
    let mut text = String::new();
    for ((a, op, b, r), why) in problem.steps.iter().zip(&problem.reasons) {
        text += &format!("{why} {a}{op}{b} = <<{a}{op}{b}={r}>>{r}.\n");
    }
    text += &format!("#### {}", problem.answer());
    Document::answered(format!("{}\n", problem.question), text)
}

struct Problem {
    question: String,
    steps: Vec<(i64, char, i64, i64)>,
    reasons: Vec<String>,
}

impl Problem {
    fn answer(&self) -> i64 {
        self.steps.last().map_or(0, |s| s.3)
    }
}

fn problem(w: &mut Writer<'_>) -> Problem {
    let person = w.person();
    let name = w.lexicon.people[person].name.split(' ').next().unwrap_or("Someone").to_owned();
    let thing = format!("{}s", w.noun());
    let start = w.between(3, 60);
    let mut question = format!("{name} has {start} {thing}.");
    let (mut total, mut steps, mut reasons) = (start, Vec::new(), Vec::new());
    for _ in 0..w.between(2, 4) {
        let n = w.between(2, 12);
        match w.below(4) {
            0 => {
                let each = w.between(2, 9);
                question += &format!(" {name} buys {n} boxes with {each} {thing} each.");
                steps.push((n, '*', each, n * each));
                reasons.push("The boxes hold".to_owned());
                steps.push((total, '+', n * each, total + n * each));
                reasons.push(format!("So {name} has"));
                total += n * each;
            }
            1 if total > n => {
                question += &format!(" {name} gives {n} {thing} to a friend.");
                steps.push((total, '-', n, total - n));
                reasons.push("After the gift there are".to_owned());
                total -= n;
            }
            2 if total < 500 => {
                let times = w.between(2, 4);
                question += &format!(" At the market {name} gets {times} times as many {thing}.");
                steps.push((total, '*', times, total * times));
                reasons.push("At the market there are".to_owned());
                total *= times;
            }
            _ => {
                question += &format!(" Then {name} finds {n} more {thing}.");
                steps.push((total, '+', n, total + n));
                reasons.push(format!("With those found {name} has"));
                total += n;
            }
        }
    }
    question += &format!(" How many {thing} does {name} have now?");
    Problem { question, steps, reasons }
}
