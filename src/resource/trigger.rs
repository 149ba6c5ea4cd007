//! Reasons to fetch now.

/// A reason to fetch now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trigger {
    /// The interval has elapsed.
    Timer,
    /// The fetch of another identity found news.
    Cohort,
    /// A client arrived for which the stored state is too old.
    Demand,
    /// A write passed through the proxy.
    Write,
    /// A watched file changed.
    File,
    /// A request to the admin API.
    Hook,
}

impl Trigger {
    /// Returns the trigger's name in metrics and in the admin API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timer => "timer",
            Self::Cohort => "cohort",
            Self::Demand => "demand",
            Self::Write => "write",
            Self::File => "file",
            Self::Hook => "hook",
        }
    }

    pub(super) const ALL: [Self; 6] = [Self::Timer, Self::Cohort, Self::Demand, Self::Write, Self::File, Self::Hook];

    pub(super) fn bit(self) -> usize {
        1 << (self as usize)
    }
}
