// The operator pages' only script. The server renders everything; this sends decisions and puts fresh parts in place.
"use strict";

const $ = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

async function send(path, body) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json", "writ-page": "1" },
    body: JSON.stringify(body ?? {}),
  });
  const answer = await response.json().catch(() => ({}));
  if (response.status === 401 && path !== "/v1/session") location.assign("/ui/login");
  if (!response.ok) throw new Error(answer.error ?? `the gate answered ${response.status}`);
  return answer;
}

function toast(text) {
  const place = $("[data-toast]");
  if (!place) return;
  place.textContent = text;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => { place.textContent = ""; }, 6000);
}

// === log in and out

$("[data-login]")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.currentTarget;
  try {
    await send("/v1/session", { code: form.code.value });
    location.assign("/ui/approvals");
  } catch (error) {
    $("[data-error]", form).textContent = error.message;
    form.code.select();
  }
});

$("[data-end-session]")?.addEventListener("click", async () => {
  await send("/v1/session/end").catch(() => {});
  location.assign("/ui/login");
});

// === votes

document.addEventListener("submit", async (event) => {
  const form = event.target.closest("[data-vote]");
  if (!form) return;
  event.preventDefault();
  const verdict = event.submitter?.value;
  if (!verdict) return;
  const { vote: id, digest, reasons } = form.dataset;
  const buttons = all("button", form);
  buttons.forEach((button) => { button.disabled = true; });
  try {
    const remember = verdict === "approve" ? remembered(form) : undefined;
    const intent = await send(`/v1/intents/${id}/${verdict}`, { rationale: form.rationale.value, digest, reasons, remember });
    const also = remember ? "; others like it are remembered" : "";
    toast(`${verdict === "approve" ? "Approved" : "Denied"}: now ${intent.status.replace("_", " ")}${also}`);
    form.rationale.value = "";
    form.rationale.blur();
    if ($("[data-live]")) refresh(); else location.reload();
  } catch (error) {
    $("[data-error]", form).textContent = error.message;
    buttons.forEach((button) => { button.disabled = false; });
    refresh();
  }
});

function remembered(form) {
  const term = form.remember?.value;
  if (!term) return undefined;
  return term === "times" ? { uses: Number(form.times.value) } : { seconds: Number.parseInt(term, 10) };
}

document.addEventListener("submit", async (event) => {
  const form = event.target.closest("[data-settle]");
  if (!form) return;
  event.preventDefault();
  const outcome = event.submitter?.value;
  const rationale = form.rationale.value;
  const page = `/v1/intents/${form.dataset.settle}`;
  try {
    if (outcome === "retry") await send(`${page}/retry`, { rationale });
    else await send(`${page}/settle`, { outcome, rationale });
    toast(outcome === "retry" ? "Held again" : `Settled: it ${outcome}`);
    form.rationale.blur();
    if ($("[data-live]")) refresh(); else location.reload();
  } catch (error) {
    $("[data-error]", form).textContent = error.message;
  }
});

// A form that says where it is sent: its fields as they are named, a list where one is asked for, without what is empty.
document.addEventListener("submit", async (event) => {
  const form = event.target.closest("[data-send]");
  if (!form) return;
  event.preventDefault();
  const fields = all("[name]", form).map((field) => [field.name, "list" in field.dataset ? field.value.split(/[\s,]+/).filter(Boolean) : field.value]);
  try {
    await send(form.dataset.send, Object.fromEntries(fields.filter(([, value]) => value !== "")));
    location.reload();
  } catch (error) {
    $("[data-error]", form).textContent = error.message;
  }
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-post]");
  if (!button) return;
  button.disabled = true;
  try {
    await send(button.dataset.post);
    location.reload();
  } catch (error) {
    toast(error.message);
    button.disabled = false;
  }
});

$("[data-verify]")?.addEventListener("click", async (event) => {
  const verdict = $("[data-verdict]");
  event.currentTarget.disabled = true;
  verdict.textContent = "verifying …";
  try {
    const answer = await send("/v1/verify");
    verdict.textContent = answer.verified ? `verified: ${answer.entries} entries` : `does not verify: ${answer.reason}`;
  } catch (error) {
    verdict.textContent = error.message;
  }
  $("[data-verify]").disabled = false;
});

// === live parts

// What is being typed on stays; what changed under the hand is closed instead of replaced.
async function refresh() {
  const place = $("[data-live]");
  if (!place) return;
  const response = await fetch(place.dataset.live, { headers: { accept: "text/html" } }).catch(() => null);
  if (!response?.ok || response.redirected) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  const wanted = all("[data-card]", fresh);
  const names = new Set(wanted.map((card) => card.dataset.card));
  for (const old of all("[data-card]", place)) {
    if (!names.has(old.dataset.card)) close(old, "This is decided, expired or cancelled.");
  }
  let before = null;
  for (const card of wanted) {
    const old = all("[data-card]", place).find((each) => each.dataset.card === card.dataset.card);
    if (!old) {
      const added = document.adoptNode(card);
      if (before) before.after(added); else place.prepend(added);
      before = added;
    } else if (old.dataset.version !== card.dataset.version) {
      before = replace(old, card);
    } else {
      before = old;
    }
  }
  countDown();
}

function isBusy(card) {
  return card.contains(document.activeElement) && document.activeElement !== card;
}

function close(card, why) {
  if (!isBusy(card)) return card.remove();
  if (card.classList.contains("gone")) return;
  card.classList.add("gone");
  all("button, textarea", card).forEach((control) => { control.disabled = true; });
  const error = $("[data-error]", card);
  if (error) error.textContent = why;
  setTimeout(() => card.remove(), 8000);
}

function replace(old, card) {
  const text = $("textarea", old)?.value;
  const focused = isBusy(old);
  const added = document.adoptNode(card);
  old.replaceWith(added);
  const field = $("textarea", added);
  if (text && field) field.value = text;
  if (focused) {
    const error = $("[data-error]", added);
    if (error) error.textContent = "This changed while you looked; read it again.";
    field?.focus();
  }
  return added;
}

function countDown() {
  for (const time of all("time[data-left]")) {
    const left = Math.floor((Date.parse(time.dateTime) - Date.now()) / 1000);
    const pad = (number) => String(number).padStart(2, "0");
    time.textContent = left <= 0 ? "now" : left < 3600
      ? `in ${Math.floor(left / 60)}:${pad(left % 60)}`
      : `in ${Math.floor(left / 3600)} h ${pad(Math.floor(left / 60) % 60)} min`;
    time.title = time.dateTime;
  }
}

for (const time of all("time[data-when]")) {
  time.title = time.dateTime;
  time.textContent = time.dateTime.replace("T", " ").replace(/\.\d+Z$/, "");
}

const state = $("[data-live-state]");
if (state) {
  countDown();
  setInterval(countDown, 1000);
  const events = new EventSource("/v1/stream");
  const show = (on) => {
    state.textContent = on ? "live" : "offline";
    state.classList.toggle("on", on);
  };
  events.addEventListener("open", () => show(true));
  events.addEventListener("error", () => show(false));
  events.addEventListener("changed", (event) => {
    const { waiting } = JSON.parse(event.data);
    all("[data-waiting]").forEach((place) => { place.textContent = waiting; });
    document.title = document.title.replace(/^(\(\d+\) )?/, waiting ? `(${waiting}) ` : "");
    refresh();
  });
}

// === keys

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.closest("input, textarea, select");
  if (event.key === "Escape" && typing) return typing.blur();
  if (typing) return;
  const cards = all("article[data-card]");
  const here = cards.findIndex((card) => card === document.activeElement || card.contains(document.activeElement));
  const card = cards[here];
  const press = (verdict) => {
    const form = card && $("[data-vote]", card);
    if (!form) return;
    event.preventDefault();
    form.rationale.focus();
    if (form.rationale.value.trim()) $(`button[value=${verdict}]`, form).focus();
  };
  if (event.key === "j") cards[Math.min(here + 1, cards.length - 1)]?.focus();
  else if (event.key === "k") cards[Math.max(here - 1, 0)]?.focus();
  else if (event.key === "a") press("approve");
  else if (event.key === "d") press("deny");
  else if (event.key === "o" && card) location.assign(`/ui/approvals/${card.dataset.card}`);
});
