//! Mistakes in a configuration file, shown at their location.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// The severity of a diagnostic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Severity {
    /// The file cannot be used.
    #[default]
    Mistake,
    /// The file can be used, but a setting most likely does not have the intended effect.
    Warning,
}

/// A mistake or a warning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostic {
    /// The severity.
    pub severity: Severity,
    /// The description of the mistake.
    pub message: String,
    /// The byte range of the mistake in the text; empty if something is missing.
    pub span: Range<usize>,
    /// A short label at the location.
    pub label: String,
    /// The suggested correction.
    pub help: Option<String>,
}

/// The mistakes in one file, up to a maximum, and the text of the file.
#[derive(Clone, Debug)]
pub struct Diagnostics {
    name: String,
    text: String,
    all: Vec<Diagnostic>,
    /// Whether further mistakes were dropped.
    more: bool,
    color: bool,
}

/// The maximum number of mistakes. Each is shown with its context in the file.
const MAX_ENTRIES: usize = 50;

impl Diagnostics {
    /// Creates an empty list for the file `name` with the content `text`.
    pub fn new(name: &str, text: &str) -> Self {
        Self { name: name.to_owned(), text: text.to_owned(), all: Vec::new(), more: false, color: false }
    }

    /// Adds a mistake, unless the list is full.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if self.is_full() {
            self.more = true;
        } else {
            self.all.push(diagnostic);
        }
    }

    /// Returns whether the list is full, so that further mistakes need not be searched.
    pub fn is_full(&self) -> bool {
        self.all.len() >= MAX_ENTRIES
    }

    /// Returns whether there are no mistakes.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Returns the number of mistakes.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Returns the mistakes in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        let mut all: Vec<_> = self.all.iter().collect();
        all.sort_by_key(|diagnostic| diagnostic.span.start);
        all.into_iter()
    }

    /// Enables colours, for a terminal.
    #[must_use]
    pub fn colored(mut self, color: bool) -> Self {
        self.color = color;
        self
    }

    /// Returns the line and column, from 1, of a byte offset.
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
