use super::*;
use crate::model::{Identity, Origin, RequestContext, RouteId, Scheme};

#[test]
fn a_fetch_serves_whoever_demanded_one_before_it_began_and_nobody_after() {
    let created_at = Instant::now();
    let at = |milliseconds| created_at + Duration::from_millis(milliseconds);
    let key = ResourceKey {
        route: RouteId(0),
        origin: Origin { scheme: Scheme::Http, host: "site.example".into(), public: "site.example".into() },
        target: "/".into(),
        variant: Arc::new([]),
        context: RequestContext::default(),
        identity: Identity::full(Vec::new()),
    };
    let resource =
        Resource::new(key, String::new(), Arc::new(RouteEvents::new(created_at)), Arc::default(), created_at);
    resource.demand(at(1));
    assert!(!resource.is_triggered(), "a demand ends with its client");
    let _waiting = resource.wait();
    // A fetch is waiting for the budget.
    resource.demand(at(1));
    resource.fetch_started(at(2));
    assert!(!resource.is_triggered());
    // The fetch is in progress or has just been published; a client that read the state before that demands late.
    resource.demand(at(2));
    assert!(!resource.is_triggered());
    resource.demand(at(3));
    resource.demand(at(1));
    assert_eq!(resource.take_trigger(false, true), Some(Trigger::Demand));
    resource.fetch_started(at(3));
    assert_eq!(resource.take_trigger(false, true), None);
    // A discarded fetch wakes no client.
    resource.fetch_started(at(4));
    resource.fence(at(5));
    resource.fetch_discarded();
    resource.fetch_started(at(4));
    assert!(resource.is_triggered());
    resource.fetch_started(at(5));
    assert!(!resource.is_triggered());
}
