//! Signals: what handlers see, when they run and what they leave behind is what it is without the loader. Each guest runs
//! natively, then under the loader in each of its modes.

mod harness;

use harness::guest;

/// One test a guest.
macro_rules! guests {
    ($($name:ident: $source:literal,)*) => {
        $(#[test]
        fn $name() {
            guest::check($source);
        })*
    };
}

guests! {
    timers_that_interrupt_calls_of_every_kind: "signal_storm.c",
    queued_signals_arrive_once_and_in_order: "signal_queue.c",
}
