# The commands of this repository, each a thin wrapper: `just --list` shows them.

# Build the program for release
build:
    cargo build --release --locked

# Run the program, for example: just run --upstream http://127.0.0.1:8000
run *arguments:
    cargo run --release --locked -- {{arguments}}

# Unit and integration tests, without other programs; a name selects some
test *names:
    cargo test --locked {{names}}

# All tests, or parts: cargo interop examples clients pages stacks browser zoo gallery apps
test-all *parts:
    tests/run {{parts}}

# Everything that must pass before a change is merged
ci:
    .ci/run

# Formatting and lints
lint:
    cargo fmt --check
    cargo clippy --locked --all-targets --features bench,otel -- --deny warnings

# Bring generated files up to date: configuration, its schema, reference, command line, public names
documents:
    UPDATE_DOCUMENTS=1 cargo test --locked --test integration -- documents:: names::

# The documentation of the modules, in a browser
doc:
    cargo doc --locked --no-deps --document-private-items --open

# The demo; --help lists its options
demo *arguments:
    examples/demo {{arguments}}

# An example: wiki, gallery or rq-dashboard
example name:
    examples/{{name}}/run

# Fuzz one target, or all, for some seconds each
fuzz target="all" seconds="60":
    tests/fuzz/run {{target}} {{seconds}}

# What comparing costs: ratios or changes
bench name="ratios":
    cargo bench --bench {{name}}

# Benchmarks beside other servers; writes docs/internals/benchmarks.md
bench-peers *cases:
    tests/bench/run {{cases}}

# The container image, built and tried without a registry
image:
    .ci/image
