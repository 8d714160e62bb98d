//! The cost of a request to a shard through the client, the mesh and the pump, on the runtime as the
//! server uses it: to the shard of the same core and to that of another. Logs are in memory.

use std::time::Duration;

use boxoffice::bench::Cores;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use shards::ids::EventId;
use shards::slots::{shard_of_slot, slot_of_event};

mod support;

/// The number of cores; requests are sent by the core of shard 0.
const CORES: usize = 2;

/// Short, because each iteration sells a ticket, and an event has ten million.
const WARM_UP: Duration = Duration::from_millis(500);
const MEASURED: Duration = Duration::from_secs(2);

fn round_trips(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ask a shard");
    let shards = (0..CORES).map(|_| support::shard_with_events(4)).collect();
    let cores = Cores::start(shards).expect("the runtime starts");
    for (name, shard) in [("of the same core", 0), ("of another core", 1)] {
        let is_its = |event: &u32| shard_of_slot(slot_of_event(EventId(*event)), CORES) == shard;
        let event = EventId((1..=4).find(is_its).expect("the events are split two and two"));
        for together in [1, 80] {
            group.throughput(Throughput::Elements(1));
            group.bench_function(BenchmarkId::new(name, together), |bencher| {
                bencher.iter_custom(|count| cores.reserve(event, count, together));
            });
        }
    }
    group.finish();
    cores.stop().expect("the cores stop without an error");
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(WARM_UP).measurement_time(MEASURED);
    targets = round_trips
}
criterion_main!(benches);
