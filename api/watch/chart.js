"use strict";
// The live chart. Counts come from the histogram call, once a second, so they are exact and survive a reload;
// the rows below come from the live feed, which tells of an event as soon as it is accepted.

const WINDOWS = [
  { label: "5 min", seconds: 300, interval: "2 seconds", step: 2 },
  { label: "1 hour", seconds: 3600, interval: "minute", step: 60 },
  { label: "1 day", seconds: 86400, interval: "10m", step: 600 },
  { label: "30 days", seconds: 30 * 86400, interval: "6h", step: 21600 },
];
const COLOURS = ["#3b82c4", "#e0883a", "#4aa564", "#b65fbf", "#d1495b", "#2aa1a1", "#8a7f3d", "#7a6fe0"];
const OTHERS = "#8d98a3";
const MOST_ROWS = 14;
const MOST_NAMES = COLOURS.length;
const NAMES_EVERY_MS = 5000;
const POLL_MS = 1000;
const ANSWER_WITHIN_MS = 8000;
const RECONNECT_MS = [500, 1000, 2000, 5000];
const EVENT_KEY = "human:event";
const REFUSED = 1008;

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const place = { bucket: "", token: "" };
let range = WINDOWS[0];
let names = [];
let rest = 0;
let namesAt = 0;

function element(tag, attributes = {}, text = "") {
  const made = tag.startsWith("svg:") ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== "") made.textContent = text;
  return made;
}

async function ask(method, path, body) {
  const answer = await fetch(`/api/bucket/${place.bucket}${path}`, {
    method,
    headers: { Authorization: `Bearer ${place.token}`, ...(body && { "Content-Type": "application/json" }) },
    body: body && JSON.stringify(body),
    signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
    cache: "no-store",
  });
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(told.msg || answer.statusText), { status: answer.status });
  return told;
}

// --- counts ---------------------------------------------------------------------------------------------------

async function learnNames() {
  const totals = new Map();
  for (const app of await ask("GET", "/data/eventsKeysByApp"))
    for (const [name, count] of Object.entries(app.counts)) totals.set(name, (totals.get(name) || 0) + count);
  const ranked = [...totals].sort((a, b) => b[1] - a[1]).map(([name]) => name);
  const kept = ranked.slice(0, MOST_NAMES);
  // A name keeps its colour for as long as it is shown.
  names = [...names.filter((name) => kept.includes(name)), ...kept.filter((name) => !names.includes(name))];
  rest = ranked.length - kept.length;
  namesAt = Date.now();
}

async function poll() {
  if (Date.now() - namesAt > NAMES_EVERY_MS) await learnNames();
  const shown = range;
  const step = shown.step * 1000;
  const end = (Math.floor(Date.now() / step) + 1) * step;
  const start = end - Math.ceil((shown.seconds * 1000) / step) * step;
  const asked = [...names];
  const counted = await Promise.all(
    asked.map((name) => ask("POST", "/data/events/stats", { event_name: name, interval: shown.interval, start, end })),
  );
  if (shown === range) draw(asked.map((name, i) => ({ name, colour: COLOURS[i] || OTHERS, points: counted[i] })), start, end, step);
}

async function keepPolling() {
  for (;;) {
    const began = Date.now();
    try {
      await poll();
      standing("live", "live");
    } catch (error) {
      if (error.status === 401 || error.status === 403 || error.status === 404) return turnedAway(error.message);
      standing("cut", `no answer, trying again: ${error.message}`);
    }
    await new Promise((resolve) => setTimeout(resolve, Math.max(200, POLL_MS - (Date.now() - began))));
  }
}

function standing(kind, text) {
  $("standing").className = kind;
  $("standing").textContent = text;
}

// --- drawing --------------------------------------------------------------------------------------------------

function niceCeiling(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= value);
}

function clock(at, step) {
  const options = step >= 21600e3 ? { day: "2-digit", month: "short" }
    : step >= 60e3 ? { hour: "2-digit", minute: "2-digit" } : { hour: "2-digit", minute: "2-digit", second: "2-digit" };
  return new Date(at).toLocaleString([], { hour12: false, ...options });
}

function draw(series, start, end, step) {
  const chart = $("chart");
  const { width, height } = chart.getBoundingClientRect();
  const left = 44, bottom = 22, slots = Math.round((end - start) / step);
  const stacks = Array.from({ length: slots }, () => 0);
  const parts = [];
  for (const { name, colour, points } of series)
    for (const [at, count] of points) {
      const slot = Math.floor((at - start) / step);
      if (count === 0 || slot < 0 || slot >= slots) continue;
      parts.push({ slot, colour, name, from: stacks[slot], count });
      stacks[slot] += count;
    }
  const top = niceCeiling(Math.max(...stacks, 1));
  const x = (slot) => left + (slot * (width - left)) / slots;
  const y = (count) => (height - bottom) * (1 - count / top);
  const bar = Math.max(1, (width - left) / slots - 1);
  const drawn = document.createDocumentFragment();
  for (const share of [0, 0.5, 1]) {
    const at = y(top * share);
    drawn.append(element("svg:line", { x1: left, x2: width, y1: at, y2: at }));
    drawn.append(element("svg:text", { x: left - 8, y: at + 4, "text-anchor": "end" }, Number((top * share).toPrecision(3)).toLocaleString()));
  }
  const every = Math.ceil(slots / Math.max(2, Math.floor((width - left) / 110)));
  for (let slot = 0; slot < slots; slot += every)
    drawn.append(element("svg:text", { x: x(slot), y: height - 4 }, clock(start + slot * step, step)));
  for (const { slot, colour, name, from, count } of parts) {
    const drawnBar = element("svg:rect", { x: x(slot), width: bar, y: y(from + count), height: Math.max(1, y(from) - y(from + count)), fill: colour, rx: 1 });
    drawnBar.append(element("svg:title", {}, `${count.toLocaleString()} ${name}, ${clock(start + slot * step, step)}`));
    drawn.append(drawnBar);
  }
  chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
  chart.replaceChildren(drawn);
  legend(series);
  totals(stacks, step);
}

function legend(series) {
  const shown = series.map(({ name, colour, points }) => {
    const item = element("span");
    const swatch = element("i");
    swatch.style.background = colour;
    const count = points.reduce((sum, [, y]) => sum + y, 0);
    item.append(swatch, name, element("b", {}, count.toLocaleString()));
    return item;
  });
  if (rest > 0) shown.push(element("span", {}, `and ${rest} more names, which are not counted here`));
  $("legend").replaceChildren(...shown);
}

function totals(stacks, step) {
  const sum = stacks.reduce((a, b) => a + b, 0);
  // The last period is still filling.
  const lately = stacks.slice(-11, -1);
  const rate = lately.reduce((a, b) => a + b, 0) / (lately.length * (step / 1000));
  const card = (value, text) => {
    const made = element("div");
    made.append(element("b", {}, value), element("span", {}, text));
    return made;
  };
  $("totals").replaceChildren(
    card(sum.toLocaleString(), `events in ${range.label}`),
    card(rate.toLocaleString([], { maximumFractionDigits: rate < 10 ? 2 : 0 }), "a second, lately"),
    card(Math.max(...stacks).toLocaleString(), "most in one period"),
    card(names.length + rest, "names"),
  );
}

// --- the live feed --------------------------------------------------------------------------------------------

function arrived(event) {
  const row = element("tr", { class: "new" });
  const time = new Date(event.at).toLocaleTimeString([], { hour12: false });
  const texts = [time, event.event_name, event.app_name, event.server_name, event.device_name, JSON.stringify(event.data)];
  for (const text of texts) row.append(element("td", { title: text || "" }, text || "–"));
  $("events").prepend(row);
  while ($("events").rows.length > MOST_ROWS) $("events").deleteRow(-1);
}

// What was stored before anybody watched.
async function latest() {
  const found = await Promise.all(names.map((name) => ask("POST", "/data/events", { event_name: name, limit: MOST_ROWS })));
  for (const event of found.flat().sort((a, b) => a.at - b.at).slice(-MOST_ROWS)) arrived(event);
}

async function followBucket() {
  const bucket = await ask("GET", "");
  follow(bucket.public_id, bucket.node.endpoints.realtime || bucket.node.endpoints.web);
}

// Until the feed has been opened once; from then on it opens itself again.
async function keepFollowing() {
  const followed = place.bucket;
  for (let attempt = 0; place.bucket === followed && !$("live").hidden; attempt++) {
    try {
      $("events").replaceChildren();
      await learnNames();
      await latest();
      return await followBucket();
    } catch (error) {
      // The polling says it, and ends what cannot become better.
      await new Promise((resolve) => setTimeout(resolve, RECONNECT_MS[Math.min(attempt, RECONNECT_MS.length - 1)]));
    }
  }
}

function follow(publicId, door, attempt = 0) {
  const followed = place.bucket;
  const feed = new WebSocket(`${door.replace(/^http/, "ws")}/primus?token=${encodeURIComponent(place.token)}`);
  feed.addEventListener("open", () => {
    attempt = 0;
    feed.send(JSON.stringify({ action: "sub", public_id: publicId, filters: [EVENT_KEY] }));
  });
  feed.addEventListener("message", (message) => {
    const [, told] = JSON.parse(message.data).data;
    if (EVENT_KEY in told && place.bucket === followed) shownSoon(told[EVENT_KEY]);
  });
  feed.addEventListener("close", (closed) => {
    // A refusal is told in words and final; whatever else ends a connection is over soon.
    if (closed.code === REFUSED || $("live").hidden || place.bucket !== followed) return;
    const delay = RECONNECT_MS[Math.min(attempt, RECONNECT_MS.length - 1)];
    setTimeout(() => follow(publicId, door, attempt + 1), delay);
  });
}

// A busy bucket sends thousands a second: only what fits the table is drawn, once a frame.
let waiting = [];
function shownSoon(event) {
  if (waiting.push(event) === 1)
    requestAnimationFrame(() => {
      const drawn = waiting.slice(-MOST_ROWS);
      waiting = [];
      drawn.forEach(arrived);
    });
  if (waiting.length > 2 * MOST_ROWS) waiting = waiting.slice(-MOST_ROWS);
}

// --- beginning ------------------------------------------------------------------------------------------------

function turnedAway(why) {
  sessionStorage.removeItem("watch");
  $("live").hidden = true;
  $("door").hidden = false;
  standing("cut", why);
}

function begin() {
  sessionStorage.setItem("watch", JSON.stringify(place));
  $("bucket").textContent = place.bucket;
  names = [];
  namesAt = 0;
  $("door").hidden = true;
  $("live").hidden = false;
  $("windows").replaceChildren(
    ...WINDOWS.map((window) => {
      const button = element("button", { type: "button", "aria-pressed": window === range }, window.label);
      button.addEventListener("click", () => {
        range = window;
        for (const other of $("windows").children) other.setAttribute("aria-pressed", other === button);
        poll().catch(() => {});
      });
      return button;
    }),
  );
  keepPolling();
  keepFollowing();
}

function find() {
  const given = new URLSearchParams(location.hash.slice(1));
  const kept = JSON.parse(sessionStorage.getItem("watch") || "{}");
  place.bucket = given.get("bucket") || kept.bucket || "";
  place.token = given.get("token") || kept.token || "";
  // A secret has no business in the address bar, nor in the history.
  if (location.hash) history.replaceState(null, "", location.pathname);
  if (place.bucket && place.token) begin();
  else $("door").hidden = false;
}

$("door").addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  const fields = new FormData($("door"));
  place.bucket = fields.get("bucket").trim();
  place.token = fields.get("token").trim();
  begin();
});
find();
