//! The configuration besides the route: the application, and the transports for clients.

use super::Facts;
use super::query::Verdict;
use super::route::{Block, quoted};
use crate::model::{Kind, MediaType};

impl Block {
    /// Writes `[upstream]`, if the file does not have it yet.
    pub(super) fn upstream(&mut self, facts: &Facts<'_>) {
        let Some(upstream) = facts.upstream else { return };
        self.out.push_str("[upstream]\n");
        self.line(&format!("url = {}", quoted(upstream)), "the application; --upstream says otherwise");
        if facts.insecure {
            self.line(
                "tls = { verify = false }",
                "as --insecure: better name its authority, tls = { ca = \"ca.pem\" }",
            );
        }
        self.out.push('\n');
    }

    /// Writes the transports for clients as comments that can be activated.
    pub(super) fn choices(&mut self, facts: &Facts<'_>, query: &Verdict) {
        let is_page = facts.samples.last().is_some_and(|sample| MediaType::of(&sample.headers).kind() == Kind::Html);
        if query.cursor.is_none() && !is_page {
            self.line(
                "# hold = \"25s\"",
                "programs, and pages that ask again once they are answered: each poll waits for a change",
            );
        }
        if is_page {
            self.line(
                "# shim = \"learn\"",
                "this page as it is: the browser script is put in and follows what it polls",
            );
        } else {
            self.out.push('\n');
            self.line("# [[route]]", "pages as they are (setInterval, setTimeout): they are given the browser script,");
            self.line("# path = \"/**\"", "whose timers fire when there is news. This route stands last");
            self.out.push_str("# shim = \"learn\"\n");
        }
        if query.cursor.is_none() {
            let target = match query.rest.as_str() {
                "" => facts.path.to_owned(),
                rest => format!("{}?{rest}", facts.path),
            };
            self.out.push('\n');
            self.comment(
                "",
                &format!(
                    "Pages that you can change need neither: new EventSource({}).onmessage has each new answer in event.data.",
                    quoted(&target)
                ),
            );
        }
    }
}
