//! What is wrong in a file, shown where it stands.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// How bad it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Severity {
    /// The file cannot be used.
    #[default]
    Mistake,
    /// It can be used, and most likely does not do what was meant.
    Warning,
}

/// One mistake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// The bytes of the text that are; empty where something is missing.
    pub span: Range<usize>,
    /// A word at the place.
    pub label: String,
    /// What to write instead.
    pub help: Option<String>,
}

/// All mistakes of one file, or as many as anybody reads, and the file.
#[derive(Clone, Debug)]
pub struct Diagnostics {
    name: String,
    text: String,
    all: Vec<Diagnostic>,
    /// Whether there are more than are kept.
    more: bool,
    color: bool,
}

/// More are not kept: each is shown within the whole file.
const MAX_ENTRIES: usize = 50;

impl Diagnostics {
    /// None yet, in the file `name` that holds `text`.
    pub fn new(name: &str, text: &str) -> Self {
        Self { name: name.to_owned(), text: text.to_owned(), all: Vec::new(), more: false, color: false }
    }

    /// Adds one, if there are not too many already.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if self.is_full() {
            self.more = true;
        } else {
            self.all.push(diagnostic);
        }
    }

    /// Whether further mistakes are of no interest before some of these are repaired.
    pub fn is_full(&self) -> bool {
        self.all.len() >= MAX_ENTRIES
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// All of them, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        let mut all: Vec<_> = self.all.iter().collect();
        all.sort_by_key(|diagnostic| diagnostic.span.start);
        all.into_iter()
    }

    /// Shows them in colour, for a terminal.
    #[must_use]
    pub fn colored(mut self, color: bool) -> Self {
        self.color = color;
        self
    }

    /// The line and column, from 1, of a byte.
    pub fn place(&self, at: usize) -> (usize, usize) {
        let before = &self.text[..at.min(self.text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        (line, column)
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let renderer = if self.color { Renderer::styled() } else { Renderer::plain() };
        for (index, diagnostic) in self.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            let level = match diagnostic.severity {
                Severity::Mistake => Level::ERROR,
                Severity::Warning => Level::WARNING,
            };
            let title = level.primary_title(diagnostic.message.as_str());
            let mut groups = vec![if self.text.is_empty() {
                Group::with_title(title)
            } else {
                let end = self.text.len();
                let span = diagnostic.span.start.min(end)..diagnostic.span.end.min(end);
                let annotation = AnnotationKind::Primary.span(span).label(diagnostic.label.as_str());
                title.element(Snippet::source(self.text.as_str()).path(self.name.as_str()).annotation(annotation))
            }];
            if let Some(help) = &diagnostic.help {
                groups.push(Group::with_title(Level::HELP.secondary_title(help.as_str())));
            }
            f.write_str(&renderer.render(&groups))?;
        }
        if self.more {
            write!(f, "\n\nThere are more mistakes than these {MAX_ENTRIES}: repair some of them, and check again.")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}
