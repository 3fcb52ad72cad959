//! One self-contained page: table, figure, plan, and where every number lies.

use std::fmt::Write as _;

use super::page::Page;
use super::table2::{Cell, LossTable};
use crate::DataTable;
use crate::question::Losses;

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Table 2's page: what comes before the plan, and after it.
pub(super) fn report(results: &Losses, (table, comparison): (&LossTable, &DataTable), svg: &str) -> [String; 2] {
    let mut body = String::new();
    let _ = write!(
        body,
        "<h1>Table 2 &mdash; {}</h1><p>{}. Backend {}. Losses in nats per token; differences are to the C4 row, paired \
         by seed; the lowest of each set is bold.</p>",
        escape(&table.model),
        escape(&table.seeds),
        escape(&results.engine)
    );
    body += "<table><tr><th>set</th><th>mix</th><th>SFT</th><th>&Delta;</th><th>sd</th><th>C4</th><th>&Delta;</th>\
             <th>sd</th><th>SFT learning rate</th></tr>";
    for row in &table.rows {
        let cell = |cell: &Option<Cell>| {
            let Some(cell) = cell else { return "<td>failed</td><td>&ndash;</td><td>&ndash;</td>".to_owned() };
            let loss = format!("{:.3}", cell.loss.mean);
            let loss = if cell.best { format!("<b>{loss}</b>") } else { loss };
            let delta = cell.delta.as_ref().filter(|_| !row.control);
            let delta = delta.map_or("&ndash;".to_owned(), |delta| format!("{:+.3}", delta.mean));
            let sd = cell.loss.sd.map_or("&ndash;".to_owned(), |sd| format!("{sd:.3}"));
            format!("<td>{loss}</td><td>{delta}</td><td>{sd}</td>")
        };
        let _ = write!(
            body,
            "<tr><td>{}</td><td>{}</td>{}{}<td>{}</td></tr>",
            escape(&row.set),
            escape(&row.arm),
            cell(&row.sft),
            cell(&row.c4),
            row.lr.map_or("&ndash;".to_owned(), |lr| format!("{lr:e}"))
        );
    }
    body += "</table>";
    body += svg;
    let _ = write!(
        body,
        "<h2>Before fine-tuning</h2><p>Held-out C4 loss; a model that ignores context would have the unigram entropy, \
         {:.3}.</p><table><tr><th>mix</th><th>C4</th></tr>",
        table.unigram_entropy
    );
    for (arm, loss) in &table.before {
        let loss = loss.map_or("failed".to_owned(), |loss| format!("{loss:.3}"));
        let _ = write!(body, "<tr><td>{}</td><td>{loss}</td></tr>", escape(arm));
    }
    body += "</table>";
    table.failures.iter().for_each(|failure| body += &format!("<p>{}</p>", escape(failure)));
    body += &data_table(comparison);
    if !results.sweep.is_empty() {
        body += "<h2>Learning-rate sweep</h2><table><tr><th>set</th><th>mix</th><th>rate</th><th>SFT</th></tr>";
        for p in &results.sweep {
            let (set, arm) = (escape(&p.dataset), escape(&p.mix));
            let loss = p.sft_loss.map_or("diverged".to_owned(), |loss| format!("{loss:.4}"));
            let _ = write!(body, "<tr><td>{set}</td><td>{arm}</td><td>{:e}</td><td>{loss}</td></tr>", p.lr);
        }
        body += "</table>";
    }
    let before_plan = std::mem::take(&mut body);
    body += "<h2>Where each number lies</h2><p>Folders of the store; those of the losses are in \
             <code>measurements.json</code>.</p><table><tr><th>set</th><th>mix</th><th>seeds</th><th>SFT</th>\
             <th>C4 before</th><th>C4</th><th>pretrain</th><th>finetune</th></tr>";
    for m in &results.measurements {
        let _ = write!(
            body,
            "<tr><td>{}</td><td>{}</td><td>{}.{}</td><td>{:.6}</td><td>{:.6}</td><td>{:.6}</td><td><code>{}</code></td>\
             <td><code>{}</code></td></tr>",
            escape(&m.dataset),
            escape(&m.mix),
            m.pretrain_seed,
            m.sft_seed,
            m.sft_loss,
            m.c4_before,
            m.c4_loss,
            m.addresses.pretrain,
            m.addresses.finetune
        );
    }
    body += "</table>";
    [before_plan, body]
}

/// The report of a page.
pub(super) fn page(page: &Page, pictures: &[String], plan: &str) -> String {
    let mut body = format!("<h1>{}</h1>", escape(&page.title));
    for svg in pictures {
        body += svg;
    }
    page.tables.iter().for_each(|table| body += &data_table(table));
    let mut after = String::new();
    if let Some(own) = &page.own {
        [body, after] = own.html.clone();
    }
    page.notes.iter().for_each(|note| body += &format!("<p>{}</p>", escape(note)));
    let _ = write!(body, "<h2>Plan</h2><pre>{}</pre>", escape(plan));
    document(&page.title, &(body + &after))
}

fn data_table(table: &DataTable) -> String {
    let mut out = format!("<h2>{}</h2><table><tr>", escape(&table.title));
    table.header.iter().for_each(|h| out += &format!("<th>{}</th>", escape(h)));
    out += "</tr>";
    for row in &table.rows {
        let cells: String = row.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
        out += &format!("<tr>{cells}</tr>");
    }
    out += "</table>";
    table.notes.iter().for_each(|note| out += &format!("<p>{}</p>", escape(note)));
    out
}

fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title><style>body{{font-family:\
         sans-serif;max-width:1200px;margin:2em auto;padding:0 1em}}table{{border-collapse:collapse}}td,th{{padding:\
         .2em .7em;border-bottom:1px solid #ddd;text-align:right}}td:first-child,td:nth-child(2),th:first-child,\
         th:nth-child(2){{text-align:left}}pre{{background:#f6f6f6;padding:1em;overflow:auto}}code{{font-size:.75em}}\
         svg{{max-width:100%;height:auto}}</style></head><body>{body}</body></html>\n",
        escape(title)
    )
}
