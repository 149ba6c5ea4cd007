//! All routes, in order.

use std::sync::Arc;

use http::Method;

use super::{Route, Shim, is_unambiguous};

/// The routes; the first that matches wins.
#[derive(Debug, Default)]
pub struct Table {
    routes: Vec<Arc<Route>>,
    inject: bool,
}

impl Table {
    /// A table of `routes`, in the order of the file.
    pub fn new(routes: Vec<Arc<Route>>) -> Self {
        let inject = routes.iter().any(|route| route.shim != Shim::Off);
        Self { routes, inject }
    }

    /// Whether pages of any route are given the browser script.
    pub fn inject(&self) -> bool {
        self.inject
    }

    /// The route of a request, if it has one. A request with an odd path has none.
    pub fn find(&self, method: &Method, path: &str) -> Option<&Arc<Route>> {
        let route = self.routes.iter().find(|route| route.takes(method) && route.pattern.matches(path))?;
        is_unambiguous(path).then_some(route)
    }

    /// The first route that takes this path by any method.
    pub fn find_path(&self, path: &str) -> Option<&Arc<Route>> {
        self.routes.iter().find(|route| route.pattern.matches(path)).filter(|_| is_unambiguous(path))
    }

    /// The route by whose rules a page may follow what no route takes, if this path is such.
    pub fn learning_route(&self, path: &str) -> Option<&Arc<Route>> {
        let learns = self.routes.iter().find(|route| route.shim == Shim::Learn)?;
        (is_unambiguous(path) && self.find_path(path).is_none()).then_some(learns)
    }

    /// The route by whose rules a GET of this path is followed, if it may be asked for by us.
    pub fn watch_route(&self, path: &str) -> Option<&Arc<Route>> {
        self.find(&Method::GET, path).or_else(|| self.learning_route(path)).filter(|route| route.fetch)
    }

    /// The same for a request by `method` that reads, which is a GET if it has no body.
    pub fn route_of_read(&self, method: &Method, path: &str) -> Option<&Arc<Route>> {
        if *method == Method::GET {
            return self.watch_route(path);
        }
        self.find(method, path).filter(|route| route.fetch)
    }

    /// All routes, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter()
    }
}
