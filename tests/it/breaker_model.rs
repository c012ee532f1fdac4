//! The circuit breaker against a simple model: three states by name, whole seconds, one lease.

use std::collections::BTreeSet;
use std::time::Duration;

use agentguard::model::breaker::{Breaker, BreakerPolicy, Ending, Refusal};
use agentguard::model::error_kind::{ErrorKind, Failure, Status};
use agentguard::model::{RunId, Text, Timestamp};
use agentguard::rules::breaker::{Change, Passage, Relation, State, ask, lend, reset, settle, state, trip};
use proptest::prelude::*;

const THRESHOLD: u32 = 3;
const COOLDOWN: u64 = 60;
const TRIPPED: u64 = 500;

/// What happens to a breaker.
#[derive(Clone, Copy, Debug)]
enum Deed {
    /// A run of the agent ends.
    Own(Status),
    /// A run that needs the agent asks, and takes the lease if it may.
    Ask,
    /// The holder of the lease ends.
    ProbeEnds(Status),
    /// The holder of the lease is killed.
    ProbeDies,
    Wait(u64),
    Trip,
    Reset,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let status = || {
        prop_oneof![
            3 => Just(Status::Failed),
            1 => Just(Status::Succeeded),
            1 => Just(Status::Cancelled),
            1 => Just(Status::Blocked),
        ]
    };
    let deed = prop_oneof![
        4 => status().prop_map(Deed::Own),
        4 => Just(Deed::Ask),
        3 => status().prop_map(Deed::ProbeEnds),
        1 => Just(Deed::ProbeDies),
        4 => (1_u64..100).prop_map(Deed::Wait),
        1 => (1000_u64..2000).prop_map(Deed::Wait),
        1 => Just(Deed::Trip),
        1 => Just(Deed::Reset),
    ];
    prop::collection::vec(deed, 1..60)
}

#[derive(Clone, Debug, PartialEq)]
enum Circuit {
    Closed,
    Open { until: u64, base: u64, longer: u32, by_hand: bool },
    HalfOpen { base: u64, longer: u32, by_hand: bool },
}

struct Model {
    now: u64,
    row: u32,
    circuit: Circuit,
    lease: Option<RunId>,
    alive: bool,
}

impl Model {
    fn wait(&mut self, seconds: u64) {
        self.now += seconds;
        if let Circuit::Open { until, base, longer, by_hand } = self.circuit
            && self.now >= until
        {
            self.circuit = Circuit::HalfOpen { base, longer, by_hand };
        }
    }

    fn close(&mut self) {
        (self.row, self.circuit, self.lease) = (0, Circuit::Closed, None);
    }

    fn open(&mut self, base: u64, longer: u32, by_hand: bool) {
        let until = self.now + (base << longer.min(4));
        self.circuit = Circuit::Open { until, base, longer, by_hand };
    }

    fn fails(&mut self, probe: bool) {
        match self.circuit {
            Circuit::Closed if self.row >= THRESHOLD => self.open(COOLDOWN, 0, false),
            Circuit::Closed => {}
            Circuit::Open { base, longer, by_hand, .. } => self.open(base, longer + u32::from(probe), by_hand),
            Circuit::HalfOpen { base, longer, by_hand } => self.open(base, longer + 1, by_hand),
        }
    }

    fn own(&mut self, status: Status) {
        match status {
            Status::Succeeded if matches!(self.circuit, Circuit::Open { by_hand: true, .. }) => {}
            Status::Succeeded => self.close(),
            Status::Failed => {
                self.row += 1;
                self.fails(false);
            }
            _ => {}
        }
    }

    fn probe_ends(&mut self, status: Status) {
        self.lease = None;
        match status {
            Status::Succeeded => self.close(),
            Status::Failed => self.fails(true),
            _ => {}
        }
    }

    fn lets_through(&self) -> bool {
        match self.circuit {
            Circuit::Closed => true,
            _ if self.lease.is_some() && self.alive => false,
            Circuit::Open { .. } => false,
            Circuit::HalfOpen { .. } => true,
        }
    }

    fn state(&self) -> State {
        match self.circuit {
            Circuit::Closed => State::Closed,
            Circuit::Open { .. } => State::Open,
            Circuit::HalfOpen { .. } => State::HalfOpen,
        }
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix_micros(1_764_000_000_000_000 + i64::try_from(seconds).expect("few") * 1_000_000)
}

fn run(number: usize) -> RunId {
    RunId::mint(number as u64, [7; 10])
}

fn ending(run_id: RunId, status: Status, now: u64) -> Ending {
    let error = match status {
        Status::Failed => Some(Failure::new(ErrorKind::ExitCode, "the agent exited with 7")),
        _ => None,
    };
    Ending {
        run_id,
        end_time: at(now),
        status,
        agent: Text::from("fetch"),
        published: false,
        exit_code: Some(7),
        error,
        needs: Vec::new(),
        parent_run_id: None,
        replay_of: None,
    }
}

fn policy() -> BreakerPolicy {
    BreakerPolicy { threshold: THRESHOLD, cooldown: Duration::from_secs(COOLDOWN), refusal: Refusal::Upstream }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_breaker_does_what_the_model_does(deeds in deeds()) {
        let mut breaker = Breaker::closed(Text::from("fetch"));
        let mut model = Model { now: 0, row: 0, circuit: Circuit::Closed, lease: None, alive: false };
        let mut probes_alive = BTreeSet::new();
        for (number, deed) in deeds.into_iter().enumerate() {
            let own = run(number);
            let end = |breaker: &mut Breaker, run: RunId, status, relation, now| {
                let end = ending(run, status, now);
                settle(breaker, &end, relation, &policy(), run);
                let once = breaker.clone();
                // As after a crash before the run was done with.
                if once.counted.iter().any(|counted| counted.run_id == run) {
                    assert_eq!(settle(breaker, &end, relation, &policy(), run), Change::None);
                    assert_eq!(*breaker, once);
                }
            };
            match deed {
                Deed::Own(status) => {
                    end(&mut breaker, own, status, Relation::Own, model.now);
                    model.own(status);
                }
                Deed::Ask => {
                    let passage = ask(&breaker, at(model.now), |_| model.alive);
                    prop_assert_eq!(matches!(passage, Passage::Free | Passage::Probe), model.lets_through());
                    if passage == Passage::Probe {
                        prop_assert!(probes_alive.is_empty(), "two probes at a time");
                        lend(&mut breaker, own);
                        (model.lease, model.alive) = (Some(own), true);
                        probes_alive.insert(own);
                    }
                }
                Deed::ProbeEnds(status) => {
                    if let Some(holder) = model.lease.filter(|_| model.alive) {
                        end(&mut breaker, holder, status, Relation::Dependent, model.now);
                        model.probe_ends(status);
                        probes_alive.remove(&holder);
                    }
                }
                Deed::ProbeDies => {
                    model.alive = false;
                    probes_alive.clear();
                }
                Deed::Wait(seconds) => model.wait(seconds),
                Deed::Trip => {
                    trip(&mut breaker, at(model.now), Duration::from_secs(TRIPPED));
                    model.open(TRIPPED, 0, true);
                    model.lease = None;
                    probes_alive.clear();
                }
                Deed::Reset => {
                    reset(&mut breaker, at(model.now));
                    model.close();
                    probes_alive.clear();
                }
            }
            if model.lease.is_none() {
                probes_alive.clear();
            }
            prop_assert_eq!(state(&breaker, at(model.now)), model.state());
            prop_assert_eq!(breaker.consecutive, model.row);
            prop_assert_eq!(breaker.failures.len(), model.row.min(3) as usize);
        }
        // Whatever happened: nobody waits longer than the longest cool-down, once no probe is alive.
        let later = at(model.now + (TRIPPED << 4));
        prop_assert!(matches!(ask(&breaker, later, |_| false), Passage::Free | Passage::Probe));
        // Nor does a clock that was set back by a year keep anybody out.
        prop_assert!(matches!(ask(&breaker, Timestamp::from_unix_micros(0), |_| false), Passage::Free | Passage::Probe));
    }
}
