# Recipes for daily work; `.ci/run` is the gate.

# Format, lints, tests, a short simulation.
ci:
    .ci/run

# Replays one simulator seed.
sim seed:
    cargo run --release -q -- sim --seed {{seed}}

# The same seed twice gives the same bytes.
sim-twice seed="1":
    cargo build --release -q
    diff <(target/release/weirlog sim --seed {{seed}}) <(target/release/weirlog sim --seed {{seed}}) && echo same

# Known bugs, put in one by one: the simulator must find each.
mutants *names:
    mutants/run {{names}}

# In-process benchmarks beside the device's own limit, and a server that rewrites segments; results go to benches/runs/. On an idle machine.
bench:
    cargo build --release -q -p weirlog -p weirlog-benches
    target/release/weirlog-benches engine
    target/release/weirlog-benches cores
    target/release/weirlog-benches parser
    target/release/weirlog-benches recovery
    target/release/weirlog-benches clustering

# Weirlog beside nats-streaming-server under growing loads; results go to benches/runs/. On an idle machine, 8 minutes.
compare:
    cargo build --release -q -p weirlog -p weirlog-benches
    target/release/weirlog-benches compare

# Every fuzz target for a while; see fuzz/README.md.
fuzz seconds="60":
    for target in $(cargo +nightly fuzz list); do cargo +nightly fuzz run $target -- -max_total_time={{seconds}} || exit 1; done

# Dependencies: advisories, licences, sources. Fetches the RustSec database; where that cannot be, without it:
# `just audit licenses bans sources`. Needs `cargo install --locked cargo-deny`.
audit *checks:
    cargo deny --locked check {{checks}}
    cd fuzz && cargo deny --locked --config ../deny.toml check {{checks}}

# The official clients against the release binary.
conformance:
    cargo build --release -q
    conformance/run

# Power losses under the release binary, failing disks, kills; needs root and the fault tools, see faults/README.md.
faults states="300" kills="50":
    cargo build --release -q
    faults/run power --states {{states}}
    faults/run disk
    faults/run kill {{kills}}
