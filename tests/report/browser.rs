//! Pages in a browser, where chromium and its driver are there: no error, the slider moves, values show, nothing runs that
//! a name holds. Spoken by the WebDriver protocol (https://www.w3.org/TR/webdriver2/).
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::common::Lab;
use crate::hostile_lab;

struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

impl Browser {
    /// None where there is none.
    fn start() -> Option<Self> {
        let started = Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let Ok(mut driver) = started else {
            eprintln!("skipped: there is no chromedriver here (Debian: chromium-driver)");
            return None;
        };
        let lines = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = lines
            .filter_map(|line| line.rsplit_once("started successfully on port ")?.1.trim_end_matches('.').parse().ok())
            .next();
        let mut browser = Self { driver, port: port.expect("the driver says its port"), session: String::new() };
        let arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": arguments }, "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let session = browser.ask("POST", "/session", &wanted);
        browser.session = session["sessionId"].as_str().unwrap_or_else(|| panic!("{session}")).to_owned();
        Some(browser)
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if method == "GET" { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost:{}\r\nContent-Type: application/json\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n",
            self.port,
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).unwrap();
        let mut answer = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            answer.read_line(&mut line).unwrap();
            if line.trim().is_empty() {
                break;
            }
            if let Some(number) = line.to_lowercase().strip_prefix("content-length:") {
                length = number.trim().parse().unwrap();
            }
        }
        let mut bytes = vec![0; length];
        answer.read_exact(&mut bytes).unwrap();
        serde_json::from_slice::<Value>(&bytes).unwrap()["value"].take()
    }

    fn post(&self, what: &str, body: &Value) -> Value {
        let value = self.ask("POST", &format!("/session/{}/{what}", self.session), body);
        assert!(value.get("error").is_none(), "{what}: {value}");
        value
    }

    fn open(&self, lab: &Lab, page: &str) {
        self.post("url", &json!({ "url": format!("file://{}", lab.path(page).display()) }));
    }

    fn run(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({ "script": script, "args": [] }))
    }

    fn devtools(&self, command: &str, parameters: Value) {
        self.post("goog/cdp/execute", &json!({ "cmd": command, "params": parameters }));
    }

    fn element(&self, css: &str) -> String {
        let found = self.post("element", &json!({ "using": "css selector", "value": css }));
        found.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned()
    }

    /// What the page said on its console since the last time.
    fn console(&self) -> Vec<Value> {
        self.post("se/log", &json!({ "type": "browser" })).as_array().unwrap().clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends the browser, which is the driver's child.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.ask("DELETE", &format!("/session/{}", self.session), &json!({}))
        }));
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

#[test]
fn the_slider_moves_values_show_and_nothing_is_amiss() {
    let Some(browser) = Browser::start() else { return };
    let lab = hostile_lab();
    lab.done(&["train", "c.toml", "--run", "r"]);
    lab.done(&["train", "c.toml", "--run", "s", "--set", "batch.effective=6"]);
    lab.done(&["report", "r", "s", "-o", "two.html"]);
    for page in ["r/report.html", "two.html"] {
        browser.open(&lab, page);
        assert_eq!(browser.run("return typeof window.hacked"), "undefined", "{page}");
        // At no width does the page run out of the window, by day or by night.
        for width in [1280, 400] {
            let size = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
            browser.devtools("Emulation.setDeviceMetricsOverride", size);
            let wide = browser.run(
                "return [innerWidth, document.documentElement.scrollWidth - document.documentElement.clientWidth]",
            );
            assert_eq!(wide, json!([width, 0]), "{page}");
            // Nor does what stands in a picture run out of it.
            let cut = browser.run(
                "return [...document.querySelectorAll('.chart svg text, .memory svg text')].filter((text) => {
                   const [own, all] = [text, text.ownerSVGElement].map((of) => of.getBoundingClientRect());
                   return own.right > all.right + 1 || own.left < all.left - 1;
                 }).map((text) => text.textContent)",
            );
            assert_eq!(cut, json!([]), "{page} at {width}");
        }
        let mut colours = Vec::new();
        for scheme in ["light", "dark"] {
            let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
            browser.devtools("Emulation.setEmulatedMedia", media);
            colours.push(browser.run("return getComputedStyle(document.body).backgroundColor"));
        }
        assert_ne!(colours[0], colours[1]);
        // Under the pointer: the first and the last step.
        let at = |share: f64| {
            browser.run(&format!(
                "const svg = document.querySelector('.chart svg'), box = svg.getBoundingClientRect();
                 svg.dispatchEvent(new PointerEvent('pointermove', {{ clientX: box.left + {share} * box.width }}));
                 return document.querySelector('.chart .readout').textContent"
            ))
        };
        let [first, last] = [at(0.1), at(0.99)].map(|said| said.as_str().unwrap().to_owned());
        assert!(first.starts_with("step 1: ") && last.starts_with("step 3: "), "{first} / {last}");
        let said = browser.console();
        assert!(said.is_empty(), "{page}: {said:?}");
    }

    browser.open(&lab, "r/report.html");
    let state = || {
        browser.run(
            "const plane = document.querySelector('.plane');
             const shown = [...plane.querySelectorAll('.slice')].filter((slice) => getComputedStyle(slice).display !== 'none');
             return [shown.length, shown[0].getAttribute('data-at'), plane.querySelector('.number').textContent]",
        )
    };
    let before = state();
    assert_eq!((&before[0], &before[1]), (&json!(1), &before[2]));
    // The arrow key, as from a keyboard.
    let slider = browser.element(".plane input");
    browser.post(&format!("element/{slider}/value"), &json!({ "text": "\u{e014}" }));
    let after = state();
    assert_eq!((&after[0], &after[1]), (&json!(1), &after[2]));
    assert_ne!(before[1], after[1], "another slice");
    let decoded = "return [...document.querySelectorAll('.slice:not([hidden]) image')].length";
    assert_eq!(browser.run(decoded), 18);
    // Every picture is one that the browser can read.
    let broken = browser.post(
        "execute/async",
        &json!({ "args": [], "script":
            "const done = arguments[0];
             Promise.all([...document.querySelectorAll('image')].map((image) => {
               const picture = new Image();
               picture.src = image.getAttribute('href');
               return picture.decode().then(() => 0, () => 1);
             })).then((all) => done([all.length, all.reduce((a, b) => a + b, 0)]))" }),
    );
    assert!(broken[0].as_u64().unwrap() > 100 && broken[1] == 0, "{broken}");
    // A layer goes and comes.
    let label = "return getComputedStyle(document.querySelector('.slice:not([hidden]) .label')).display";
    let shown = browser.run(label);
    let layer = browser.element(".layers input[name=label]");
    browser.post(&format!("element/{layer}/click"), &json!({}));
    assert_eq!((browser.run(label), shown != "none"), (json!("none"), true));
    let said = browser.console();
    assert!(said.is_empty(), "{said:?}");
}
