//! The program makes no connection: it has nothing to make one with, and asks the system for none.
use std::process::Command;

use crate::allocation::alone;
use crate::common::Lab;

/// Crates that speak to a network, by the beginning of their names.
const SPEAKERS: [&str; 16] = [
    "attohttpc",
    "curl",
    "h2",
    "hyper",
    "isahc",
    "native-tls",
    "openssl",
    "quinn",
    "reqwest",
    "rustls",
    "socket2",
    "surf",
    "tokio",
    "tungstenite",
    "ureq",
    "webpki",
];

/// Nothing that is built into the program by default speaks to a network.
#[test]
fn no_crate_speaks_to_a_network() {
    let _alone = alone();
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let tree = Command::new(std::env::var("CARGO").unwrap_or_else(|_| cargo.into()))
        .args(["tree", "--offline", "--locked", "--edges", "normal", "--prefix", "none"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    let Some(tree) = tree.ok().filter(|tree| tree.status.success()) else {
        eprintln!("skipped: `cargo tree --offline` does not run here");
        return;
    };
    let tree = String::from_utf8_lossy(&tree.stdout).into_owned();
    assert!(tree.lines().count() > 50 && tree.contains("safetensors"), "{tree}");
    for line in tree.lines() {
        assert!(!SPEAKERS.iter().any(|name| line.starts_with(name)), "{line}");
    }
}

/// A program on Linux reaches a network through these functions of the C library; ours asks for none of them.
#[cfg(target_os = "linux")]
#[test]
fn the_program_has_no_function_to_connect_with() {
    let _alone = alone();
    let program = std::fs::read(env!("CARGO_BIN_EXE_voxfit")).unwrap();
    let imported = |name: &str| {
        let name = [b"\0", name.as_bytes(), b"\0"].concat();
        program.windows(name.len()).any(|window| window == name)
    };
    // Where the names of imported functions are not as they are expected, there would be none of these either.
    if !imported("mmap") && !imported("mmap64") {
        eprintln!("skipped: the program does not import from a C library");
        return;
    }
    for name in ["socket", "connect", "bind", "listen", "accept", "accept4", "getaddrinfo", "gethostbyname", "sendto"] {
        assert!(!imported(name), "the program imports {name}");
    }
}

/// Everything works where there is no network at all.
#[cfg(target_os = "linux")]
#[test]
fn everything_works_without_a_network() {
    let _alone = alone();
    let lab = Lab::new();
    let apart = Command::new("unshare").args(["--map-root-user", "--net", "true"]).output();
    if !apart.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: `unshare --net` is not allowed here");
        return;
    }
    let script = "exec unshare --map-root-user --net sh -c '\"$VOXFIT\" -q train c.toml --run r && \
                  \"$VOXFIT\" -q predict r data/imagesTr -o out && \"$VOXFIT\" -q evaluate out data/labelsTr'";
    let output = lab.shell(script);
    assert!(output.status.success(), "{}", crate::common::stderr(&output));
}

/// The system is asked for no connection; `strace` sees what libraries do, too.
#[cfg(target_os = "linux")]
#[test]
fn the_system_is_asked_for_no_connection() {
    let _alone = alone();
    let lab = Lab::new();
    let script =
        "exec strace -f -qq -e trace=socket,connect,bind,listen,sendto -o calls \"$VOXFIT\" -q train c.toml --run r";
    let output = lab.shell(script);
    let Some(calls) = std::fs::read_to_string(lab.path("calls")).ok().filter(|_| output.status.success()) else {
        eprintln!("skipped: no strace here, or it may not trace");
        return;
    };
    let asked =
        |line: &&str| ["socket(", "connect(", "bind(", "listen(", "sendto("].iter().any(|call| line.contains(call));
    let calls: Vec<&str> = calls.lines().filter(asked).collect();
    assert!(calls.is_empty(), "{calls:?}");
}
