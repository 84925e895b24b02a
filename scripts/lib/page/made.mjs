// The page over a library that was made up, in a real browser: node made.mjs EXAMPLE-BINARY [SCREENSHOTS]
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import * as b from "./browser.mjs";

const [binary, shots] = process.argv.slice(2);
const TOKEN = "a token for looking at it";
const SECRETS = /IMG_0001|immich-newest|s3:\/\/photos|nas\.example|replica-lag|Your photos/;
const VIEWS = [
  ["overview", "/"], ["findings", "/findings"], ["copies", "/copies"], ["runs", "/runs"], ["run", "/runs/1000"],
  ["growth", "/growth"], ["snapshots", "/snapshots"], ["browse", "/browse?snapshot=immich-newest&path=2019%2F07"],
  ["many", "/browse?snapshot=immich-newest&path=many"], ["drills", "/drills"], ["missing", "/nowhere"],
];

async function serve(...more) {
  const child = spawn(binary, ["127.0.0.1:0", TOKEN, ...more], { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout });
  const answers = [];
  const waiting = [];
  lines.on("line", (text) => (waiting.length ? waiting.shift()(text) : answers.push(text)));
  const next = () => (answers.length ? Promise.resolve(answers.shift()) : new Promise((resolve) => waiting.push(resolve)));
  const base = (await next()).replace(/\/$/, "");
  const say = (word) => child.stdin.write(`${word}\n`);
  const ask = async (word) => { say(word); return next(); };
  const end = () => new Promise((resolve) => { child.on("exit", resolve); child.stdin.end(); });
  return { base, port: Number(new URL(base).port), say, ask, end };
}

// Everything by the keyboard alone, from the login to a file that is back.
async function keyboard(browser, server) {
  const { context, page } = await b.fresh(browser, b.DESKTOP);
  await page.goto(`${server.base}/snapshots`);
  b.check(await page.evaluate(() => document.activeElement?.id === "token"), "the login takes what is typed at once");
  await page.keyboard.type(TOKEN);
  await page.keyboard.press("Enter");
  await page.waitForURL(`${server.base}/snapshots`);
  await page.keyboard.press("Tab");
  b.check(await page.evaluate(() => document.activeElement.className === "skip"), "the first thing is the way past the menu");
  await page.keyboard.press("Enter");
  b.check(await page.evaluate(() => document.activeElement.id === "main"), "which leads to the content");
  await b.tabTo(page, "text:immich-newest");
  await page.keyboard.press("Enter");
  await page.waitForURL(/browse/);
  for (const folder of ["2019/", "07/"]) {
    await b.tabTo(page, `text:${folder}`);
    await Promise.all([page.waitForNavigation(), page.keyboard.press("Enter")]);
  }
  await b.tabTo(page, "[aria-describedby=e-1]:is(button)");
  await Promise.all([page.waitForNavigation(), page.keyboard.press("Enter")]);
  b.check((await page.textContent("h1")) === "It is back", `the file is back: ${await page.textContent("main")}`);
  b.check(/restored\/immich-newest\/2019\/07\//.test(await server.ask("restored")), "the library was told");
  for (const path of ["/", "/findings", "/runs", "/drills", "/growth"]) {
    await b.walk(page, `${server.base}${path}`);
  }
  await context.close();
}

async function pointer(browser, server) {
  const { context, page } = await b.fresh(browser, { ...b.PHONE, acceptDownloads: true });
  await b.login(page, server.base, TOKEN);
  await page.goto(`${server.base}/browse?snapshot=immich-newest&path=2019%2F07`);
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: "Save" }).last().tap()]);
  const content = readFileSync(await download.path());
  b.check(download.suggestedFilename() === "IMG_0002.jpg" && content.length === 1_500_000, `saved ${download.suggestedFilename()}, ${content.length} bytes`);
  b.check(createHash("sha256").update(content).digest("hex") === createHash("sha256").update(Buffer.alloc(1_500_000, 7)).digest("hex"), "byte for byte");
  await page.goto(`${server.base}/findings`);
  await page.getByRole("button", { name: "Hush" }).first().tap();
  await page.waitForURL(/\/act/);
  b.check(/Hush \{ key: "replica-lag", subject: "far", days: 1 \}/.test(await server.ask("acted")), "hushed");
  await page.goto(`${server.base}/`);
  await page.getByRole("button", { name: "Log out" }).tap();
  await page.waitForURL(/login/);
  await page.goto(`${server.base}/runs`);
  b.check(new URL(page.url()).pathname === "/login", "who has logged out is out");
  await context.close();
}

async function stranger(browser, server) {
  const { context, page } = await b.fresh(browser, b.DESKTOP);
  page.allow(/status of 40[13]/);
  for (const path of [...VIEWS.map(([, path]) => path), "/metrics", "/events?page=/", "/download?snapshot=immich-newest&path=notes.txt", "/assets/page.js"]) {
    const answer = await context.request.get(`${server.base}${path}`);
    // The address that was asked for comes back, and nothing else.
    const text = (await answer.text()).replace(/name="next" value="[^"]*"/, "");
    const login = answer.url().includes("/login") || answer.status() === 401;
    b.check(login && !SECRETS.test(text), `${path} tells a stranger: ${answer.status()} ${text.slice(0, 80)}`);
  }
  for (const path of ["/restore", "/act"]) {
    const answer = await context.request.post(`${server.base}${path}`, { form: { do: "flush" }, headers: { origin: server.base } });
    b.check(answer.status() === 401, `${path}: ${answer.status()}`);
  }
  await page.goto(`${server.base}/`);
  await page.getByLabel("Token").fill("not the token at all");
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("alert").waitFor();
  b.check(/That is not the token/.test(await page.textContent("main")), "a wrong token is told");
  await b.accessible(page, "login with a wrong token");
  // A page of somebody else posts a form to ours, with our cookie around.
  await b.login(page, server.base, TOKEN);
  const acted = await server.ask("acted");
  const other = await context.newPage();
  await other.route("http://evil.example/", (route) => route.fulfill({
    contentType: "text/html", body: `<form method=post action="${server.base}/act"><input name=do value=flush><button>x</button></form>`,
  }));
  await other.goto("http://evil.example/");
  const [answer] = await Promise.all([other.waitForResponse(/\/act$/), other.getByRole("button").click()]);
  b.check(answer.status() === 401, `without our cookie: ${answer.status()}`);
  b.check((await server.ask("acted")) === acted, "another page's form does nothing");
  await context.close();
}

async function live(browser, server) {
  const line = b.line(server.port);
  const port = await line.start(0);
  const base = `http://127.0.0.1:${port}`;
  const { context, page } = await b.fresh(browser, b.DESKTOP);
  page.allow(/ERR_|Failed to load resource/);
  await b.login(page, base, TOKEN);
  await page.getByText("Live: this page keeps itself up to date.").waitFor();
  const region = page.locator("[data-part=safe]");
  b.check((await region.getAttribute("aria-live")) === "polite", "a change of the sentence is read aloud");
  const before = await page.locator("[data-part=now]").textContent();
  await page.waitForFunction((old) => document.querySelector("[data-part=now]").textContent !== old, before, { timeout: 5000 });
  let since = Date.now();
  server.say("red");
  await page.getByText("The bucket has refused every upload").waitFor({ timeout: 5000 });
  const red = Date.now() - since;
  b.check((await page.title()) === "At risk · Haven", `the title says so, too: ${await page.title()}`);
  await b.accessible(page, "overview, red, live");
  // What has the focus stays until it is left.
  await page.locator("[data-part=findings] a").first().focus();
  server.say("run");
  await page.getByText("made by hand").first().waitFor({ timeout: 5000 });
  b.check(await page.evaluate(() => document.activeElement?.closest("[data-part=findings]") !== null), "the focus stays where it is");
  await line.cut();
  await page.getByText("Not live: the keeper does not answer. Trying again.").waitFor({ timeout: 10_000 });
  server.say("unknown");
  since = Date.now();
  await line.start(port);
  await page.getByText("The keeper has just started").waitFor({ timeout: 20_000 });
  const back = Date.now() - since;
  await page.getByText("Live: this page keeps itself up to date.").waitFor();
  server.say("yellow");
  await context.close();
  await line.cut();
  return { ms_until_a_change_is_seen: red, ms_until_live_again: back };
}

async function plain(browser, server) {
  const { context, page } = await b.fresh(browser, { ...b.DESKTOP, javaScriptEnabled: false });
  await b.login(page, server.base, TOKEN);
  await page.goto(`${server.base}/browse?snapshot=immich-newest&path=2019%2F07`);
  await page.getByRole("button", { name: "Bring back" }).last().click();
  b.check((await page.textContent("h1")) === "It is back", "without scripts a file comes back, too");
  await context.close();
  // 320 pixels: a small phone, or a page enlarged four times.
  const narrow = await b.fresh(browser, { viewport: { width: 320, height: 640 } });
  narrow.page.allow(/status of 404/);
  await b.login(narrow.page, server.base, TOKEN);
  for (const [name, path] of VIEWS) {
    await narrow.page.goto(`${server.base}${path}`);
    await b.readable(narrow.page, `${name} at 320 pixels`);
  }
  await narrow.context.close();
}

async function spoken(browser, server) {
  const { context, page } = await b.fresh(browser, b.DESKTOP);
  await b.login(page, server.base, TOKEN);
  const text = await page.locator("body").ariaSnapshot();
  for (const part of ["- banner:", '- navigation "Main":', "- main:", "- contentinfo:", 'heading "Safe, but look: Your photos are safe; one copy is behind." [level=1]',
    'img "The copies. library, at s3://photos/haven: good;', '- link "Skip to content"', "- status:", "caption: The newest runs"]) {
    b.check(text.includes(part), `a screen reader hears ${part}:\n${text.slice(0, 4000)}`);
  }
  await context.close();
}

async function onlyShows(browser) {
  const server = await serve("read-only");
  const { context, page } = await b.fresh(browser, b.DESKTOP);
  page.allow(/status of 404/);
  await b.login(page, server.base, TOKEN);
  for (const [name, path] of VIEWS) {
    await page.goto(`${server.base}${path}`);
    const buttons = await page.locator("main button:not(form[method=get] button)").count();
    b.check(buttons === 0, `${name}: ${buttons} buttons on a page that only shows`);
  }
  await b.accessible(page, "a page that only shows");
  await context.close();
  await server.end();
}

// Small ones for documents: what a screen shows at once.
async function pictures(browser, server) {
  const wanted = [
    ["overview", "/", "desktop", "light", { width: 1180, height: 1080 }], ["overview", "/", "phone", "dark", { width: 390, height: 1180 }],
    ["runs", "/runs", "desktop", "dark", { width: 1180, height: 640 }],
    ["browse", "/browse?snapshot=immich-newest&path=2019%2F07", "phone", "light", { width: 390, height: 780 }],
  ];
  for (const [name, path, device, colorScheme, viewport] of wanted) {
    const { context, page } = await b.fresh(browser, { viewport, colorScheme });
    await b.login(page, server.base, TOKEN);
    await page.goto(`${server.base}${path}`);
    await page.screenshot({ path: `${shots}/picture-${name}-${device}-${colorScheme}.png` });
    await context.close();
  }
}

if (shots) mkdirSync(shots, { recursive: true });
const server = await serve();
const { browser, close } = await b.open();
const figures = {};
try {
  if (shots) await pictures(browser, server);
  await b.everyView(browser, server.base, TOKEN, VIEWS, shots);
  await keyboard(browser, server);
  await pointer(browser, server);
  await stranger(browser, server);
  await spoken(browser, server);
  await plain(browser, server);
  await onlyShows(browser);
  Object.assign(figures, await live(browser, server));
} catch (error) {
  b.check(false, String(error.stack ?? error));
} finally {
  await close();
  await server.end();
}
b.conclude("made", figures);
