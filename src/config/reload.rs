//! Compares two configurations. Pure: the server applies the result.

use std::collections::HashSet;

use super::Config;
use crate::model::RouteId;

/// The steps to apply a new configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReloadPlan {
    /// Routes in both configurations: their streams continue without interruption.
    pub kept: HashSet<RouteId>,
    /// Routes only in the old configuration: their streams end.
    pub removed: HashSet<RouteId>,
    /// The number of new routes.
    pub added: usize,
    /// The names of the changed keys that take effect only after a restart.
    pub needs_restart: Vec<&'static str>,
}

/// Compares two configurations.
pub fn plan(old: &Config, new: &Config) -> ReloadPlan {
    let ids = |config: &Config| config.routes.iter().map(|route| route.id).collect::<HashSet<_>>();
    let (before, after) = (ids(old), ids(new));
    let admin = |config: &Config| config.server.admin.as_ref().map(|admin| admin.listen);
    let redirect = |config: &Config| (config.server.redirect, config.server.redirect_port);
    let fixed = [
        ("server.listen", old.server.listen != new.server.listen),
        ("server.admin", admin(old) != admin(new)),
        ("server.tls", old.server.tls != new.server.tls),
        ("server.redirect", redirect(old) != redirect(new)),
        ("server.h2c", old.front != new.front),
        ("server.mode", old.observes != new.observes),
    ];
    ReloadPlan {
        kept: before.intersection(&after).copied().collect(),
        removed: before.difference(&after).copied().collect(),
        added: after.difference(&before).count(),
        needs_restart: fixed.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Overrides, parse};
    use super::*;

    fn config(text: &str) -> Config {
        parse("test", &format!("[upstream]\nurl = \"http://a\"\n{text}"), &Overrides::default())
            .unwrap_or_else(|found| panic!("{found}"))
    }

    #[test]
    fn routes_are_kept_by_what_they_say_wherever_they_stand() {
        let old = config("[[route]]\npath = \"/a\"\n[[route]]\npath = \"/b\"\n[[route]]\npath = \"/c\"\n");
        let new = config(
            "[[route]]\npath = \"/c\"\n[[route]]\npath = \"/b\"\nevery = \"2s\"\n[[route]]\npath = \"/a\"\n# a remark\n",
        );
        let plan = plan(&old, &new);
        assert_eq!((plan.kept.len(), plan.removed.len(), plan.added), (2, 1, 1));
        assert_eq!(plan.removed, HashSet::from([old.routes[1].id]));
        assert!(plan.needs_restart.is_empty());
    }

    #[test]
    fn another_upstream_is_another_everything() {
        let old = config("[[route]]\npath = \"/a\"\n");
        let new = parse("test", "[upstream]\nurl = \"http://b\"\n[[route]]\npath = \"/a\"\n", &Overrides::default())
            .unwrap_or_else(|found| panic!("{found}"));
        assert_eq!(plan(&old, &new).kept.len(), 0);
    }

    #[test]
    fn listeners_stay_as_they_are() {
        let new = config("[server]\nlisten = \"127.0.0.1:1\"\nh2c = true\n");
        assert_eq!(plan(&config(""), &new).needs_restart, ["server.listen", "server.h2c"]);
    }
}
