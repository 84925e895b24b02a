// What every look at the page with a real browser has in common: views, devices, what has to be true of each.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import net from "node:net";
import { join } from "node:path";
import { chromium } from "playwright-core";

const require = createRequire(import.meta.url);
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

export const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
export const DESKTOP = { viewport: { width: 1280, height: 900 } };
export const DEVICES = { phone: PHONE, desktop: DESKTOP };

export const seen = { views: 0, rules: 0, violations: 0, focused: 0 };
const failures = [];

export function check(truth, what) {
  if (truth) return;
  failures.push(what);
  console.error(`NOT TRUE: ${what}`);
}

export function conclude(story, more = {}) {
  console.log(JSON.stringify({ story, ...seen, ...more, failures }));
  process.exitCode = failures.length ? 1 : 0;
}

// With a fresh profile that goes with the browser.
export async function open() {
  const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"];
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", headless: true, args });
  return { browser, close: () => browser.close() };
}

// A page whose every error is a failure: what the policy forbids is told there, too.
export async function fresh(browser, options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const allowed = [];
  page.allow = (pattern) => allowed.push(pattern);
  const told = (text) => allowed.some((pattern) => pattern.test(text)) || check(false, `${page.url()}: ${text}`);
  page.on("console", (message) => { if (["error", "warning"].includes(message.type())) told(message.text()); });
  page.on("pageerror", (error) => told(String(error)));
  return { context, page };
}

export async function login(page, base, token) {
  await page.goto(`${base}/`);
  check(new URL(page.url()).pathname === "/login", `${page.url()} asks for the token`);
  await page.getByLabel("Token").fill(token);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.waitForURL(`${base}/`);
}

export async function accessible(page, what) {
  await page.evaluate(axe);
  const result = await page.evaluate((rules) => globalThis.axe.run(document, { runOnly: rules }), RULES);
  seen.rules += result.passes.length;
  seen.violations += result.violations.length;
  for (const violation of result.violations) {
    const where = violation.nodes.slice(0, 3).map((node) => `${node.target} ${node.failureSummary ?? ""}`).join(" | ");
    check(false, `${what}: ${violation.id}: ${violation.help}: ${where}`);
  }
}

// Nothing is wider than the screen, whatever is in it; there is one first heading; pictures have words.
export async function readable(page, what) {
  const facts = await page.evaluate(() => ({
    wider: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    headings: document.querySelectorAll("h1").length,
    mute: [...document.querySelectorAll("svg[role=img]")].filter((svg) => !(svg.getAttribute("aria-label") ?? "").trim()).length,
    bare: [...document.querySelectorAll("table")].filter((table) => !table.caption?.textContent.trim()).length,
    small: [...document.querySelectorAll("button, nav[aria-label=Main] a, select, input:not([type=hidden])")]
      .filter((e) => e.getBoundingClientRect().height < 24).length,
  }));
  check(facts.wider <= 0, `${what}: ${facts.wider} pixels wider than the screen`);
  check(facts.headings === 1, `${what}: ${facts.headings} first headings`);
  check(facts.mute === 0 && facts.bare === 0, `${what}: ${facts.mute} pictures without words, ${facts.bare} tables without caption`);
  check(facts.small === 0, `${what}: ${facts.small} things too small to be touched`);
}

// Every view on every device by light and by dark.
export async function everyView(browser, base, token, views, shots) {
  for (const [device, options] of Object.entries(DEVICES)) {
    for (const colorScheme of ["light", "dark"]) {
      const { context, page } = await fresh(browser, { ...options, colorScheme });
      page.allow(/status of 404/);
      await page.goto(`${base}/login`);
      await look(page, `login-${device}-${colorScheme}`, shots);
      await login(page, base, token);
      for (const [name, path] of views) {
        await page.goto(`${base}${path}`);
        await look(page, `${name}-${device}-${colorScheme}`, shots);
      }
      await context.close();
    }
  }
}

async function look(page, what, shots) {
  seen.views += 1;
  const paper = await page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number));
  const dark = paper.reduce((sum, part) => sum + part, 0) < 3 * 64;
  check(dark === what.endsWith("dark"), `${what}: the paper is rgb(${paper})`);
  await readable(page, what);
  await accessible(page, what);
  if (shots) await page.screenshot({ path: join(shots, `${what}.png`), fullPage: true });
}

// Presses Tab until the element that matches has the focus.
export async function tabTo(page, matches, most = 200) {
  for (let n = 0; n < most; n++) {
    await page.keyboard.press("Tab");
    if (await focused(page, matches)) return true;
  }
  check(false, `${page.url()}: ${matches} can't be reached by the keyboard`);
  return false;
}

const focused = (page, matches) =>
  page.evaluate((wanted) => {
    const active = document.activeElement;
    const text = (active?.textContent ?? "").trim();
    return !!active && (wanted.startsWith("text:") ? text.startsWith(wanted.slice(5)) : active.matches(wanted));
  }, matches);

// Walks through a page by Tab: everything that can be used gets the focus, shows it, and is on the screen then. Without
// live parts: what is replaced loses the marks by which it is counted.
export async function walk(page, address) {
  page.allow(/ERR_FAILED/);
  await page.route("**/events?**", (route) => route.abort());
  await page.goto(address);
  const wanted = await page.evaluate(() => {
    document.activeElement?.blur();
    const usable = [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, summary, [tabindex='0']")]
      .filter((e) => e.checkVisibility());
    usable.forEach((element, n) => { element.dataset.walk = n; });
    return usable.length;
  });
  const reached = new Set();
  for (let n = 0; n < wanted + 5; n++) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => {
      const active = document.activeElement;
      if (!active || active === document.body) return null;
      const style = getComputedStyle(active);
      const box = active.getBoundingClientRect();
      return {
        walk: active.dataset.walk, text: (active.textContent ?? "").trim().slice(0, 40), tag: active.tagName,
        shown: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
        inside: box.bottom > 0 && box.top < innerHeight,
      };
    });
    if (!at) continue;
    seen.focused += 1;
    if (at.walk !== undefined) reached.add(at.walk);
    check(at.shown, `${page.url()}: the focus on ${at.tag} "${at.text}" can't be seen`);
    check(at.inside, `${page.url()}: ${at.tag} "${at.text}" has the focus and is off the screen`);
  }
  await page.unroute("**/events?**");
  check(reached.size === wanted, `${page.url()}: ${reached.size} of ${wanted} things can be reached by the keyboard`);
}

// A line that can be cut: browsers reach the server through it.
export function line(port) {
  const sockets = new Set();
  let server;
  const start = (at) => new Promise((resolve) => {
    server = net.createServer((near) => {
      const far = net.connect(port, "127.0.0.1");
      for (const [a, b] of [[near, far], [far, near]]) {
        sockets.add(a);
        a.on("close", () => sockets.delete(a)).on("error", () => b.destroy());
        a.pipe(b);
      }
    }).listen(at, "127.0.0.1", () => resolve(server.address().port));
  });
  const cut = () => new Promise((resolve) => {
    server.close(resolve);
    for (const socket of sockets) socket.destroy();
  });
  return { start, cut };
}
