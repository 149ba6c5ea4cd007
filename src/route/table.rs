//! The table of all routes.

use std::sync::Arc;

use http::Method;

use super::{Route, Shim, is_unambiguous};

/// The routes in order; the first match wins.
#[derive(Debug, Default)]
pub struct Table {
    routes: Vec<Arc<Route>>,
    inject: bool,
}

impl Table {
    /// Creates a table of `routes`, in the order of the file.
    pub fn new(routes: Vec<Arc<Route>>) -> Self {
        let inject = routes.iter().any(|route| route.shim != Shim::Off);
        Self { routes, inject }
    }

    /// Returns whether any route injects the browser script.
    pub fn inject(&self) -> bool {
        self.inject
    }

    /// Returns the route of a request, if there is one. A request with an ambiguous path has none.
    pub fn find(&self, method: &Method, path: &str) -> Option<&Arc<Route>> {
        let route = self.routes.iter().find(|route| route.takes(method) && route.pattern.matches(path))?;
        is_unambiguous(path).then_some(route)
    }

    /// Returns the first route that matches this path with any method.
    pub fn find_path(&self, path: &str) -> Option<&Arc<Route>> {
        self.routes.iter().find(|route| route.pattern.matches(path)).filter(|_| is_unambiguous(path))
    }

    /// Returns the route that allows a page to subscribe to this path although no route matches the path.
    pub fn learning_route(&self, path: &str) -> Option<&Arc<Route>> {
        let learns = self.routes.iter().find(|route| route.shim == Shim::Learn)?;
        (is_unambiguous(path) && self.find_path(path).is_none()).then_some(learns)
    }

    /// Returns the route that applies to a watched GET of this path, if Sungrazer may fetch it.
    pub fn watch_route(&self, path: &str) -> Option<&Arc<Route>> {
        self.find(&Method::GET, path).or_else(|| self.learning_route(path)).filter(|route| route.fetch)
    }

    /// Does the same for a request that reads with `method`; without a body it is a GET.
    pub fn route_of_read(&self, method: &Method, path: &str) -> Option<&Arc<Route>> {
        if *method == Method::GET {
            return self.watch_route(path);
        }
        self.find(method, path).filter(|route| route.fetch)
    }

    /// Returns all routes in order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter()
    }
}
