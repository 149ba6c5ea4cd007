use super::*;
use crate::clock;

fn owner(network: u8, client: u64) -> Owner {
    Owner { network: Some(AddressBucket::of([10, 0, 0, network].into())), client }
}

fn queue(max_fetches: usize, max_fetch_rate: usize) -> (Queue<u32>, Instant) {
    (Queue::new(BudgetOptions { max_fetches, max_fetch_rate }), clock::now())
}

fn admitted(queue: &mut Queue<u32>, now: Instant) -> Vec<u32> {
    queue.admit(now).into_iter().map(|(_, call)| call).collect()
}

#[test]
fn a_trigger_goes_first_but_not_before_one_that_waits_long() {
    let (mut queue, now) = queue(1, 100);
    let late = now + PATIENCE + Duration::from_secs(1);
    queue.enqueue(owner(1, 1), Priority::Triggered, late, 2);
    queue.enqueue(owner(1, 1), Priority::Routine, now, 1);
    queue.enqueue(owner(1, 1), Priority::Triggered, now + Duration::from_secs(1), 0);
    for expected in 0..3 {
        assert_eq!(admitted(&mut queue, now), [expected]);
        queue.end(owner(1, 1));
    }
}

#[test]
fn no_second_holds_more_fetches_than_the_rate() {
    let (mut queue, now) = queue(1000, 4);
    let at = |ms| now + Duration::from_millis(ms);
    for n in 0..6 {
        queue.enqueue(owner(n, 0), Priority::Routine, now, n.into());
    }
    assert_eq!(admitted(&mut queue, now), [0, 1, 2, 3]);
    assert_eq!((admitted(&mut queue, at(999)), queue.next_moment()), (vec![], Some(at(1000))));
    assert_eq!(admitted(&mut queue, at(1000)), [4, 5]);
}

#[test]
fn no_more_run_than_may() {
    let (mut queue, now) = queue(2, 100);
    for n in 0..4 {
        queue.enqueue(owner(n, 0), Priority::Routine, now, n.into());
    }
    assert_eq!(admitted(&mut queue, now), [0, 1]);
    assert_eq!((admitted(&mut queue, now), queue.next_moment()), (vec![], None));
    queue.end(owner(0, 0));
    assert_eq!(admitted(&mut queue, now), [2]);
}

#[test]
fn whoever_waits_for_many_fetches_leaves_the_next_to_others() {
    for (flood, other) in [(owner(1, 1), owner(2, 1)), (owner(1, 1), owner(1, 2))] {
        let (mut queue, now) = queue(8, 1000);
        for n in 0..1000 {
            queue.enqueue(flood, Priority::Triggered, now, n);
        }
        assert!(admitted(&mut queue, now).len() < 8, "nothing is left");
        assert!(queue.has_room(other, now) && !queue.has_room(flood, now));
        queue.enqueue(other, Priority::Routine, now + PATIENCE, 5000);
        assert_eq!(admitted(&mut queue, now), [5000]);
    }
}

#[test]
fn they_take_turns_where_one_fetch_is_made_at_a_time() {
    let (mut queue, now) = queue(1, 1000);
    for n in 0..100 {
        queue.enqueue(owner(1, 1), Priority::Triggered, now, n);
    }
    for n in 0..3 {
        queue.enqueue(owner(2, 1), Priority::Routine, now, 1000 + n);
        queue.enqueue(owner(2, 2), Priority::Routine, now, 2000 + n);
    }
    let mut order = Vec::new();
    while order.len() < 12 {
        for (of, call) in queue.admit(now) {
            order.push(call);
            queue.end(of);
        }
    }
    assert_eq!(order.iter().filter(|call| **call < 1000).count(), 6, "{order:?}");
    assert_eq!(order.iter().filter(|call| **call >= 2000).count(), 3, "{order:?}");
}

/// For all behaviours of owners, the limits hold, an owner without fetches is admitted before one with many, and all
/// are admitted in the end.
#[test]
fn shares_hold_whatever_the_seed() {
    for seed in 0..200 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let options = BudgetOptions { max_fetches: rng.usize(4..20), max_fetch_rate: rng.usize(4..60) };
        let mut queue = Queue::new(options);
        let mut now = clock::now();
        let mut running: Vec<Owner> = Vec::new();
        let mut begun: VecDeque<Instant> = VecDeque::new();
        // This client never has more than one fetch, beside others that have as many as they can.
        let (modest, mut since) = (owner(200, 7), None);
        let mut places = Vec::new();
        for step in 0..600 {
            let flood = owner(rng.u8(0..2), rng.u64(0..3));
            for _ in 0..rng.usize(0..8) {
                let priority = if rng.bool() { Priority::Triggered } else { Priority::Routine };
                places.push(queue.enqueue(flood, priority, now, 0));
            }
            if rng.u8(0..4) == 0 && !places.is_empty() {
                queue.dequeue(&places.swap_remove(rng.usize(..places.len())));
            }
            if since.is_none() && !running.contains(&modest) && step < 500 {
                queue.enqueue(modest, Priority::Routine, now, 1);
                since = Some(now);
            }
            for (of, call) in queue.admit(now) {
                running.push(of);
                begun.push_back(now);
                since = since.filter(|_| call != 1);
            }
            while begun.front().is_some_and(|begun| *begun + WINDOW <= now) {
                begun.pop_front();
            }
            assert!(running.len() <= options.max_fetches && begun.len() <= options.max_fetch_rate, "seed {seed}");
            assert_eq!(queue.running(), running.len());
            if let Some(since) = since {
                assert!(now.duration_since(since) <= WINDOW, "seed {seed}: a modest client waits: {queue:?}");
            }
            now += Duration::from_millis(rng.u64(0..50));
            while rng.u8(0..3) > 0 && !running.is_empty() {
                queue.end(running.swap_remove(rng.usize(..running.len())));
            }
        }
        while queue.waiting() > 0 {
            now += WINDOW;
            running.extend(queue.admit(now).into_iter().map(|(of, _)| of));
            running.drain(..).for_each(|of| queue.end(of));
        }
        queue.last_second(now + WINDOW);
        assert!(
            queue.networks.parties.is_empty() && queue.clients.parties.is_empty() && queue.clients.turns.is_empty()
        );
    }
}
