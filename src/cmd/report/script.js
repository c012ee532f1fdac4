
"use strict";
(() => {
  const PAGE = 100;
  const data = JSON.parse(document.getElementById("data").textContent);
  const table = document.getElementById("table");
  const body = table.tBodies[0];
  const controls = document.getElementById("controls");
  const pages = document.getElementById("pages");
  const {texts, rows} = data;

  // Start times stand as differences.
  let last = 0;
  const starts = data.starts.map((delta, at) => (last = at ? last - delta : delta));
  const statusOf = (row) => data.status.charCodeAt(row) - 97;
  const classOf = (row) => data.class.charCodeAt(row) - 97;
  const idOf = (row) => {
    const hex = data.ids.slice(row * 32, row * 32 + 32);
    return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
  };

  const pad = (number, digits) => String(number).padStart(digits, "0");
  const time = (millis) => {
    const at = new Date(millis);
    return Number.isNaN(at.getTime()) ? "–" : at.toISOString().slice(0, 19).replace("T", " ");
  };
  const took = (millis) => {
    const s = Math.floor(millis / 1000);
    if (s < 1) return millis + "ms";
    if (s < 60) return s + "." + Math.floor((millis % 1000) / 100) + "s";
    if (s < 3600) return Math.floor(s / 60) + "m" + pad(s % 60, 2) + "s";
    if (s < 86400) return Math.floor(s / 3600) + "h" + pad(Math.floor(s / 60) % 60, 2) + "m";
    return Math.floor(s / 86400) + "d" + pad(Math.floor(s / 3600) % 24, 2) + "h";
  };
  const tokens = (count) => {
    if (count === null) return "–";
    let whole = count, unit = 0;
    while (whole >= 1000 && unit < 3) { whole /= 1000; unit += 1; }
    return unit ? (Math.floor(whole * 10) / 10).toFixed(1) + ["", "k", "M", "G"][unit] : String(count);
  };
  const cost = (micros) => micros === null ? "–" : "$" + (micros / 1e6).toFixed(Math.abs(micros) < 1e6 ? 4 : 2);
  const exit = (code) => code === null ? "–" : code < 0 ? "signal " + -code : String(code);

  const element = (name, text, className) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  };

  const columns = [
    {sort: (row) => starts[row]}, {sort: (row) => starts[row]}, {text: (row) => texts[data.agent[row]]},
    {sort: (row) => statusOf(row) * 8 + classOf(row)}, {sort: (row) => data.took[row]},
    {sort: (row) => data.tries[row]}, {sort: (row) => data.tokens[row]}, {sort: (row) => data.cost[row]},
    {text: (row) => texts[data.error[row]]},
  ];
  let shown = Int32Array.from({length: rows}, (_, row) => row);
  let page = 0, sorted = 1, descending = true;

  // Each text is looked at once, however many runs have it.
  const lowered = texts.map((text) => text.toLowerCase());
  const search = (words, status, agent) => {
    const hits = words.map((word) => lowered.map((text) => text.includes(word)));
    const stateHits = words.map((word) => data.statuses.map((name) => name.includes(word)));
    const classHits = words.map((word) => data.classes.map((name) => name.includes(word)));
    const found = [];
    for (let row = 0; row < rows; row += 1) {
      if (status >= 0 && statusOf(row) !== status) continue;
      if (agent >= 0 && data.agent[row] !== agent) continue;
      let all = true;
      for (let at = 0; all && at < words.length; at += 1) {
        const hit = hits[at];
        all = hit[data.agent[row]] || hit[data.kind[row]] || hit[data.error[row]] || hit[data.command[row]]
          || hit[data.labels[row]] || stateHits[at][statusOf(row)] || (classOf(row) > 0 && classHits[at][classOf(row)])
          || idOf(row).includes(words[at]);
      }
      if (all) found.push(row);
    }
    return Int32Array.from(found);
  };

  const order = () => {
    const {sort, text} = columns[sorted];
    const sign = descending ? -1 : 1;
    if (text) {
      const collator = new Intl.Collator("en");
      // Equal texts are equal places: most comparisons end there.
      shown.sort((a, b) => { const x = text(a), y = text(b); return x === y ? a - b : sign * collator.compare(x, y); });
    } else {
      // What is not known comes last, whichever way.
      shown.sort((a, b) => {
        const x = sort(a), y = sort(b);
        if (x === null || y === null) return x === y ? a - b : x === null ? 1 : -1;
        return x === y ? a - b : sign * (x - y);
      });
    }
  };

  const facts = (pairs) => {
    const list = element("dl");
    for (const [name, value] of pairs) {
      if (!value) continue;
      list.append(element("dt", name), element("dd", value));
    }
    return list;
  };
  const small = (titles, lines) => {
    const made = element("table"), head = element("tr"), inside = element("tbody");
    for (const title of titles) head.append(element("th", title));
    for (const line of lines) {
      const row = element("tr");
      for (const cell of line) row.append(element("td", cell));
      inside.append(row);
    }
    const top = element("thead");
    top.append(head);
    made.append(top, inside);
    return made;
  };
  const expansion = (row) => {
    const id = idOf(row);
    const told = document.getElementById("run-" + id);
    if (told) return told.querySelector(".body").cloneNode(true);
    const made = element("div");
    const more = data.more[row];
    made.append(facts([
      ["run", id], ["command", texts[data.command[row]]], ["labels", texts[data.labels[row]]],
      ["cause", texts[data.kind[row]]], ["error", texts[data.error[row]]], ["exit", exit(data.exit[row])],
      ["more", "agentguard show " + id.slice(28)],
    ]));
    if (more && more[0].length) {
      made.append(small(["Attempt", "Started", "Took", "Exit", "Tokens", "Cost", "Staged files", "Bytes", "Error"],
        more[0].map((one, at) => [at + 1, time(starts[row] + one[0]), took(one[1]), exit(one[2]), tokens(one[3]),
          cost(one[4]), one[5], one[6], texts[one[7]]])));
    }
    if (more && more[1].length) {
      made.append(small(["Verify", "Result", "Took"], more[1].map((one) =>
        [texts[one[2]], one[0] === 0 ? "passed" : one[0] === null ? "was killed" : "exited with " + one[0], took(one[1])])));
    }
    return made;
  };

  const toggle = (line, row) => {
    if (line.classList.toggle("expanded")) {
      const below = element("tr"), cell = element("td", undefined, "expansion");
      cell.colSpan = columns.length;
      cell.append(expansion(row));
      below.append(cell);
      line.after(below);
    } else {
      line.nextElementSibling.remove();
    }
    line.setAttribute("aria-expanded", line.classList.contains("expanded"));
  };

  const line = (row) => {
    const made = element("tr", undefined, "open-row");
    made.tabIndex = 0;
    made.setAttribute("aria-expanded", "false");
    const id = element("td"), name = element("code", idOf(row).slice(28));
    name.title = idOf(row);
    id.append(name);
    const outcome = element("td");
    outcome.append(element("span", undefined, "dot c" + classOf(row)), data.statuses[statusOf(row)]);
    if (classOf(row)) outcome.append(" ", element("small", data.classes[classOf(row)]));
    made.append(id, element("td", time(starts[row])), element("td", texts[data.agent[row]]), outcome,
      element("td", took(data.took[row]), "n"), element("td", String(data.tries[row]), "n"),
      element("td", tokens(data.tokens[row]), "n"), element("td", cost(data.cost[row]), "n"),
      element("td", texts[data.error[row]]));
    made.addEventListener("click", () => { if (!String(getSelection())) toggle(made, row); });
    made.addEventListener("keydown", (event) => {
      if (event.target === made && (event.key === "Enter" || event.key === " ")) { event.preventDefault(); toggle(made, row); }
    });
    return made;
  };

  const count = element("span", undefined, "note"), back = element("button", "Newer"), on = element("button", "Older");
  const draw = () => {
    const last = Math.max(0, Math.ceil(shown.length / PAGE) - 1);
    page = Math.min(page, last);
    const part = shown.subarray(page * PAGE, page * PAGE + PAGE);
    body.replaceChildren(...Array.from(part, line));
    const from = shown.length ? page * PAGE + 1 : 0;
    count.textContent = `${from.toLocaleString("en")}–${(page * PAGE + part.length).toLocaleString("en")} of ${shown.length.toLocaleString("en")}`;
    back.disabled = page === 0;
    on.disabled = page === last;
    table.querySelectorAll("thead th").forEach((head, at) => {
      if (at === sorted) head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
  };

  const box = element("input");
  box.type = "search";
  box.placeholder = "Search agents, errors, commands, labels, ids";
  box.setAttribute("aria-label", "Search the runs");
  const choice = (label, options) => {
    const made = element("select");
    made.setAttribute("aria-label", label);
    for (const [value, text] of [[-1, label], ...options]) {
      const option = element("option", text);
      option.value = value;
      made.append(option);
    }
    return made;
  };
  const used = new Set(data.status);
  const status = choice("Any status", data.statuses.map((name, at) => [at, name])
    .filter(([at]) => used.has(String.fromCharCode(97 + at))));
  const byRuns = new Map();
  for (const place of data.agent) byRuns.set(place, (byRuns.get(place) || 0) + 1);
  const agent = choice("Any agent", [...byRuns].sort((a, b) => b[1] - a[1]).slice(0, 200)
    .map(([place]) => [place, texts[place]]));
  const look = () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    shown = search(words, Number(status.value), Number(agent.value));
    order();
    page = 0;
    draw();
  };
  let timer;
  box.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(look, 120); });
  status.addEventListener("change", look);
  agent.addEventListener("change", look);
  controls.append(box, status, agent, count);
  pages.append(back, on);
  back.addEventListener("click", () => { page -= 1; draw(); });
  on.addEventListener("click", () => { page += 1; draw(); });
  table.querySelectorAll("thead th").forEach((head, at) => {
    const button = element("button", head.textContent);
    button.addEventListener("click", () => {
      descending = sorted === at ? !descending : Boolean(columns[at].sort);
      sorted = at;
      order();
      page = 0;
      draw();
    });
    head.replaceChildren(button);
  });
  controls.hidden = false;
  pages.hidden = false;
  order();
  draw();
  document.documentElement.dataset.script = "ran";
})();
