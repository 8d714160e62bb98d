//! The shops of `examples/`, against a server that hangs for longer than their time-outs, and that is killed and
//! started again while they sell. Each compares its ledger with the server, and so does this test. A sale behind a
//! shop's back shows that it would say so.
//!
//! `.ci/venv examples/python && cargo test --test examples -- --ignored`

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use support::api_keys::make_key;
use support::client::Client;
use support::server::{Server, boxoffice, run};
use support::{PASSWORD, TestFolder, all_items, check_sums, number};

/// The least that a freeze has to take, so that the shops' requests, which have 2 s, are given up.
const FREEZE: Duration = Duration::from_secs(3);

/// How long a shop may take, which takes some 20 s on an idle machine.
const DEADLINE: Duration = Duration::from_secs(180);

#[derive(Debug, Clone, Copy)]
enum Language {
    JavaScript,
    Python,
}

/// A shop that runs; killed on drop.
struct Shop {
    language: Language,
    process: Child,
    output: BufReader<ChildStdout>,
    event: u64,
}

impl Shop {
    /// Starts a shop, and returns when it has made its event.
    fn open(language: Language, server: &Server, settings: &[(&str, &str)]) -> Shop {
        let root = env!("CARGO_MANIFEST_DIR");
        let (program, file) = match language {
            Language::JavaScript => ("node".to_owned(), "javascript/shop.js"),
            Language::Python => (format!("{root}/target/examples-python-venv/bin/python"), "python/shop.py"),
        };
        let mut process = Command::new(&program)
            .arg(format!("{root}/examples/{file}"))
            .env("SHOP_SERVER", format!("http://{}", server.address))
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        let mut output = BufReader::new(process.stdout.take().expect("it is piped"));
        let mut line = String::new();
        output.read_line(&mut line).expect("it is text");
        let event = line.strip_prefix("event: ").and_then(|event| event.trim().parse().ok());
        let mut shop = Shop { language, process, output, event: 0 };
        shop.event = event.unwrap_or_else(|| panic!("{line:?}, {}", shop.errors()));
        shop
    }

    /// What it prints on standard error until it ends.
    fn errors(&mut self) -> String {
        std::io::read_to_string(self.process.stderr.take().expect("it was not read")).expect("it is text")
    }

    /// Waits for its end. Returns whether it succeeded, what it printed, and its errors.
    fn end(mut self) -> (bool, Vec<String>, String) {
        let until = Instant::now() + DEADLINE;
        while self.process.try_wait().expect("it is our child").is_none() {
            assert!(Instant::now() < until, "the shop in {:?} does not end", self.language);
            thread::sleep(Duration::from_millis(20));
        }
        let status = self.process.wait().expect("it ended");
        let lines = (&mut self.output).lines().collect::<Result<_, _>>().expect("it is text");
        (status.success(), lines, self.errors())
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // Both fail if it has already ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The number of a line such as `requests sent again: 12`.
fn figure(lines: &[String], name: &str) -> u64 {
    let found = lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let found = found.unwrap_or_else(|| panic!("no {name:?} in {lines:?}"));
    let digits: String = found.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("{found:?}"))
}

fn reserved(anyone: &Client, event: u64) -> u64 {
    number(&anyone.get(&format!("/api/v1/events/{event}/availability")).expect(200).json(), "reserved")
}

/// Waits until so many tickets of the event are reserved.
fn wait_for_sales(anyone: &Client, event: u64, tickets: u64) {
    let until = Instant::now() + DEADLINE;
    while reserved(anyone, event) < tickets {
        assert!(Instant::now() < until, "event {event} does not sell");
        thread::sleep(Duration::from_millis(5));
    }
}

/// With a key that it is given.
#[test]
#[ignore = "needs node"]
fn the_shop_in_javascript_loses_no_sale_and_makes_none_twice() {
    check(Language::JavaScript, |key| vec![("SHOP_KEY", key)]);
}

/// With an organizer and a key that it makes.
#[test]
#[ignore = "needs python3 with httpx"]
fn the_shop_in_python_loses_no_sale_and_makes_none_twice() {
    check(Language::Python, |_| vec![("SHOP_ADMIN", "root"), ("SHOP_ADMIN_PASSWORD", PASSWORD)]);
}

/// `settings` are variables of the shop, with a key that it may use.
fn check(language: Language, settings: impl Fn(&str) -> Vec<(&str, &str)>) {
    let folder = TestFolder::new();
    let data = &folder.path("data");
    let mut command = boxoffice();
    command.args(["admin", "create", "--username", "root", "--data"]).arg(data);
    command.env("BOXOFFICE_ADMIN_PASSWORD", PASSWORD);
    assert_eq!(run(command, "").code, Some(0));
    let server = Server::start(data, &["--shards", "2"]);
    let anyone = server.client();
    let admin = anyone.log_in("root", PASSWORD);
    let organizer = anyone.sign_up("organizer", "organizer");
    let key = make_key(&organizer, &["events:read", "events:write", "sell"]).secret;

    let cheated = Shop::open(language, &server, &[("SHOP_KEY", &key), ("SHOP_BUYERS", "10")]);
    let event = format!("/api/v1/events/{}", cheated.event);
    // So many that one is left for this sale.
    organizer.patch(&event, &json!({ "quota": 1000 })).expect(200);
    let sale = json!({ "quantity": 1, "customer_ref": "nobody" });
    organizer.post(&format!("{event}/reservations"), &sale).expect(201);

    let shop = Shop::open(language, &server, &settings(&key));
    let event = shop.event;
    wait_for_sales(&anyone, event, 20);
    server.freeze();
    thread::sleep(FREEZE);
    server.signal(Signal::CONT);
    wait_for_sales(&anyone, event, 150);
    let before_the_kill = reserved(&anyone, event);
    let address = server.address;
    server.kill();
    let server = Server::start_at(data, address, &["--shards", "2"]);

    let (succeeded, lines, errors) = shop.end();
    println!("{language:?}: {}", lines.join("; "));
    assert!(succeeded, "{language:?}: {lines:?}\n{errors}");
    for what in ["requests sent again", "answers replayed"] {
        assert!(figure(&lines, what) > 0, "{language:?}: {lines:?}");
    }
    assert_eq!(figure(&lines, "purchases sold late"), 1, "{lines:?}");
    let seen = anyone.get(&format!("/api/v1/events/{event}")).expect(200).json();
    check_sums(&seen);
    assert!(number(&seen, "reserved") > before_the_kill, "{language:?} sold nothing after the kill: {seen}");
    assert_eq!((number(&seen, "reserved"), number(&seen, "held")), (figure(&lines, "tickets sold"), 0));
    let list = all_items(&admin, &format!("/api/v1/events/{event}/reservations?status=confirmed"), 100);
    let sales = figure(&lines, "purchases sold") + figure(&lines, "purchases sold late");
    assert_eq!(list.len() as u64, sales, "{lines:?}");

    let (succeeded, lines, errors) = cheated.end();
    assert!(!succeeded && errors.contains("nobody"), "{language:?} saw no difference: {lines:?}\n{errors}");
    drop(server);
}
