// The page of a real keeper: node atwork.mjs BASE TOKEN-FILE FACTS(JSON) [SCREENSHOTS]
// FACTS: point (the mount), snapshot, folder, file, sha256, bytes, replica
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as b from "./browser.mjs";

const [base, tokenFile, factsFile, shots] = process.argv.slice(2);
const TOKEN = readFileSync(tokenFile, "utf8").trim();
const facts = JSON.parse(readFileSync(factsFile, "utf8"));
const place = `snapshot=${encodeURIComponent(facts.snapshot)}&path=${encodeURIComponent(facts.folder)}`;
const VIEWS = [
  ["overview", "/"], ["findings", "/findings"], ["copies", "/copies"], ["runs", "/runs?span=day"], ["growth", "/growth"],
  ["snapshots", "/snapshots"], ["browse", `/browse?${place}`], ["drills", "/drills"],
];
const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

async function restore(browser) {
  const { context, page } = await b.fresh(browser, { ...b.PHONE, acceptDownloads: true });
  await b.login(page, base, TOKEN);
  await page.goto(`${base}/browse?${place}`);
  const row = page.getByRole("row").filter({ hasText: facts.file });
  b.check(!existsSync(join(facts.point, facts.folder, facts.file)), "the file is gone from the library");
  const [download] = await Promise.all([page.waitForEvent("download"), row.getByRole("link", { name: "Save" }).tap()]);
  b.check(sha256(readFileSync(await download.path())) === facts.sha256, "what was saved is the photo, byte for byte");
  await row.getByRole("button", { name: "Bring back" }).tap();
  await page.getByRole("heading", { name: "It is back" }).waitFor();
  const at = await page.locator("main strong").first().textContent();
  b.check(sha256(readFileSync(join(facts.point, at))) === facts.sha256, `${at} is the photo, byte for byte`);
  if (shots) await page.screenshot({ path: join(shots, "restored-phone-light.png"), fullPage: true });
  await context.close();
  return at;
}

// A run that is asked for on the page begins, ends, and is seen on another page that nobody touches.
async function runNow(browser) {
  const { context, page } = await b.fresh(browser, b.DESKTOP);
  await b.login(page, base, TOKEN);
  const other = await context.newPage();
  await other.goto(`${base}/runs?kind=replica&span=day`);
  await other.getByText("Live: this page keeps itself up to date.").waitFor();
  const before = await other.locator("[data-part=timeline] tbody tr").count();
  await page.goto(`${base}/runs`);
  const since = Date.now();
  await page.getByRole("button", { name: `Run replica ${facts.replica}` }).click();
  await page.getByRole("heading", { name: "Started: replica" }).waitFor();
  await other.waitForFunction(
    (count) => {
      const rows = document.querySelectorAll("[data-part=timeline] tbody tr");
      return rows.length > count && rows[0].textContent.includes("good");
    }, before, { timeout: 60_000 });
  const ms = Date.now() - since;
  await other.locator("[data-part=timeline] tbody tr a").first().click();
  await other.getByRole("heading", { name: "Log" }).waitFor();
  await context.close();
  return ms;
}

// What is written to the mount is seen on its way, and then in the bucket.
async function numbers(browser) {
  const { context, page } = await b.fresh(browser, b.DESKTOP);
  await b.login(page, base, TOKEN);
  await page.getByText("Live: this page keeps itself up to date.").waitFor();
  const bytes = Buffer.alloc(48 << 20);
  for (let n = 0; n < bytes.length; n += 4) bytes.writeUInt32LE((n * 2654435761) >>> 0, n);
  writeFileSync(join(facts.point, "photos", "new.mov"), bytes);
  const rates = page.locator("[data-part=now]");
  await page.waitForFunction(() => /write (?!0 B)[\d.]+ .?B\/s/.test(document.querySelector("[data-part=now]").textContent), null, { timeout: 20_000 });
  const seen = (await rates.textContent()).match(/write ([\d.]+ \S+)/)?.[1];
  await page.waitForFunction(() => /yetnothing/.test(document.querySelector("[data-part=now]").textContent), null, { timeout: 60_000 });
  await context.close();
  return seen;
}

async function stranger(browser) {
  const { context } = await b.fresh(browser, b.DESKTOP);
  for (const path of [...VIEWS.map(([, path]) => path), `/download?${place}%2F${facts.file}`, "/metrics", "/events?page=/"]) {
    const answer = await context.request.get(`${base}${path}`);
    // The address that was asked for comes back, and nothing else.
    const text = (await answer.text()).replace(/name="next" value="[^"]*"/, "");
    b.check((answer.url().includes("/login") || answer.status() === 401) && !text.includes(facts.file) && !text.includes(facts.point),
      `${path} tells a stranger: ${answer.status()}`);
  }
  const health = await context.request.get(`${base}/healthz`);
  b.check((await health.text()) === "ok\n", "the keeper is alive");
  await context.close();
}

if (shots) mkdirSync(shots, { recursive: true });
const { browser, close } = await b.open();
const figures = {};
try {
  await stranger(browser);
  figures.restored_to = await restore(browser);
  figures.ms_until_a_run_is_seen_done = await runNow(browser);
  figures.seen_written = await numbers(browser);
  await b.everyView(browser, base, TOKEN, VIEWS, shots);
} catch (error) {
  b.check(false, String(error.stack ?? error));
} finally {
  await close();
}
b.conclude("at work", figures);
