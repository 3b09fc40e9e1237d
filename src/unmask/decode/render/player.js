"use strict";
// The player: decodes as text that fills in over time. It is used by pages with a recorded decode and by the page of the service.
//
// data = {mask_token, runs: [{label, text, tokens: [{id, text, given, after}], steps: [step]}], beside, cells}; cells = {columns, box: [height, width], solution}
// step = {unmasked: [{position, id, text, probability}], remasked: [position], alternatives: [{position, top: [{id, text, probability}]}]}
// Texts reach the page through textContent only: no token becomes markup.
const createPlayer = (root, {stops, onUse = null}) => {
  const find = (selector) => root.querySelector(selector);
  const element = (name, className = "", text = "") => {
    const made = document.createElement(name);
    made.className = className;
    made.textContent = text;
    return made;
  };
  const panes = find(".panes"), range = find("input[type=range]"), play = find(".play"), speed = find(".speed"), bars = find(".timelines");
  const samples = find(".samples"), beside = find(".beside"), count = find(".count"), details = find(".details");
  let data = {runs: []}, shown = [0], step = 0, timer = null, views = [], chosen = null, kept = false;

  const rgb = (p) => {
    const place = Math.min(Math.max(p, 0), 1) * (stops.length - 1), left = Math.min(Math.floor(place), stops.length - 2);
    return stops[left].map((a, i) => Math.round(a + (stops[left + 1][i] - a) * (place - left))).join(" ");
  };
  find(".legend b").style.background = `linear-gradient(to right, ${stops.map((s) => `rgb(${s.join(" ")})`).join(", ")})`;
  const percent = (p) => (p >= 0.0005 ? `${(100 * p).toFixed(1)}%` : "under 0.1%");
  const quoted = (text) => (text === "" || text === null ? "part of a character" : JSON.stringify(text));
  const last = () => Math.max(0, ...shown.map((i) => data.runs[i]?.steps.length ?? 0));

  // Write a token's own text, with a sign where the text alone is invisible.
  const write = (span, text) => {
    span.replaceChildren();
    for (const part of text === "" ? [""] : text.split(/(\n)/).filter((s) => s !== "")) {
      if (part === "\n" || part === "") span.append(element("span", "sign", part === "" ? "·" : "↵"));
      span.append(part);
    }
  };

  // Return the edges of a box, of a square of cells, that a position touches.
  const edgeOf = (position, {columns, box: [height, width]}) =>
    (Math.floor(position / columns) % height ? "" : "top ") + ((position % columns) % width ? "" : "left");

  // Return what each position holds after `until` steps: {text, probability, id, step} or null where masked.
  const stateAfter = (run, until) => {
    const state = run.tokens.map(() => null);
    run.steps.slice(0, until).forEach((event, n) => {
      for (const token of event.unmasked) state[token.position] = {...token, step: n};
      for (const position of event.remasked ?? []) state[position] = null;
    });
    return state;
  };

  // Return the alternatives of a position at this step: of the step that placed its token, or of the next step if it is masked.
  const alternativesOf = (run, position, until) => {
    const placed = stateAfter(run, until)[position];
    for (let n = Math.min(placed ? placed.step : until, run.steps.length - 1); n >= 0; n -= 1) {
      const own = run.steps[n].alternatives?.find((entry) => entry.position === position);
      if (own) return {step: n, top: own.top};
    }
    return null;
  };

  const showDetails = () => {
    details.replaceChildren();
    const run = chosen && data.runs[chosen.run], token = run?.tokens[chosen.position];
    if (!token || token.given) {
      details.append(element("h2", "", "Alternatives"), element("p", "", "Point at a masked or unmasked token, or move to it with the tab key."));
      return;
    }
    const placed = stateAfter(run, step)[chosen.position], found = alternativesOf(run, chosen.position, step);
    details.append(element("h2", "", placed ? quoted(placed.text) : "masked"));
    const where = `position ${chosen.position}`;
    details.append(element("p", "", placed ? `probability ${percent(placed.probability)} · step ${placed.step + 1} · ${where} · id ${placed.id}` : where));
    if (found) {
      details.append(element("p", "", `most likely in step ${found.step + 1}`));
      const list = element("ol");
      for (const option of found.top) {
        const item = element("li"), bar = element("div", "bar");
        if (onUse) {
          const use = element("button", "");
          use.type = "button";
          use.append(element("code", "", quoted(option.text)));
          use.title = "Place this token here and decode the rest again";
          use.addEventListener("click", () => onUse(chosen, option));
          item.append(use);
        } else item.append(element("code", "", quoted(option.text)));
        bar.style.width = `${Math.max(1, 100 * option.probability)}%`;
        bar.style.setProperty("--rgb", rgb(option.probability));
        item.append(element("span", "", percent(option.probability)), bar);
        list.append(item);
      }
      details.append(list);
    }
    if (onUse && placed) {
      const actions = element("div", "actions"), pin = element("button", "pin", "Pin and decode the rest again");
      pin.type = "button";
      pin.addEventListener("click", () => onUse(chosen, placed));
      actions.append(pin);
      details.append(actions);
    }
  };

  const show = () => {
    const texts = [];
    for (const view of views) {
      const run = data.runs[view.run], state = stateAfter(run, step);
      let filled = 0, blanks = 0;
      run.tokens.forEach((token, i) => {
        const span = view.spans[i];
        if (token.given) return;
        blanks += 1;
        filled += state[i] ? 1 : 0;
        const text = state[i] ? state[i].text ?? "" : null;
        if (span.shown !== text) {
          if (text === null) span.replaceChildren(element("i", "", token.text ?? "····"));
          else write(span, text);
          span.shown = text;
        }
        const fresh = state[i] && state[i].step === step - 1 ? " fresh" : "";
        const picked = chosen && chosen.run === view.run && chosen.position === i ? " chosen" : "";
        const wrong = state[i] && data.cells?.solution && state[i].text !== data.cells.solution[i] ? " wrong" : "";
        span.className = "token " + (state[i] ? "placed" : "blank") + fresh + picked + wrong + (state[i] && token.after ? " after" : "");
        span.setAttribute("aria-label", state[i] ? `${quoted(state[i].text)}, probability ${percent(state[i].probability)}` : `masked token at position ${i}`);
        if (state[i]) span.style.setProperty("--rgb", rgb(state[i].probability));
      });
      [...view.bars.children].forEach((bar, i) => bar.classList.toggle("done", i < step));
      texts.push(`${filled} of ${blanks} tokens`);
    }
    range.value = step;
    range.setAttribute("aria-valuetext", `step ${step} of ${last()}`);
    count.textContent = `step ${step} of ${last()} · ${texts.join(" | ")}`;
    showDetails();
  };

  const drawBars = (view) => {
    const run = data.runs[view.run], most = Math.max(1, ...run.steps.map((event) => event.unmasked.length));
    const total = last();
    view.bars.replaceChildren(...Array.from({length: total}, (_, n) => {
      const bar = element("i"), placed = run.steps[n]?.unmasked ?? [];
      bar.style.height = `${(100 * placed.length) / most}%`;
      if (placed.length) bar.style.setProperty("--rgb", rgb(placed.reduce((sum, token) => sum + token.probability, 0) / placed.length));
      return bar;
    }));
  };

  const choose = (run, position, keep) => {
    if (kept && !keep) return;
    kept = keep;
    chosen = {run, position};
    show();
  };

  const openRuns = (indices) => {
    shown = indices.filter((i) => i < data.runs.length);
    views = shown.map((index) => {
      const run = data.runs[index], pane = element("section", "pane"), sheet = element("div", "sheet");
      const title = element("h2", "", shown.length > 1 || data.runs.length > 1 ? run.label : "");
      sheet.tabIndex = 0;
      sheet.setAttribute("role", "region");
      sheet.setAttribute("aria-label", `Text, ${run.label || "as it is unmasked"}`);
      if (data.cells) {
        sheet.classList.add("cells");
        sheet.style.setProperty("--columns", data.cells.columns);
      }
      const spans = run.tokens.map((token, position) => {
        const span = element("span", `token given${token.pinned ? " pinned" : ""}`, token.given ? token.text : "");
        if (data.cells) span.dataset.edge = edgeOf(position, data.cells);
        if (!token.given) {
          span.setAttribute("role", "button");
          span.tabIndex = 0;
          span.addEventListener("pointerenter", () => choose(index, position, false));
          span.addEventListener("focus", () => choose(index, position, false));
          span.addEventListener("click", () => choose(index, position, true));
          span.addEventListener("keydown", (event) => { if (event.key === "Enter") choose(index, position, true); });
        }
        return span;
      });
      sheet.replaceChildren(...spans);
      pane.append(title, sheet);
      return {run: index, pane, spans, title, bars: element("div", "bars")};
    });
    panes.replaceChildren(...views.map((view) => view.pane));
    bars.replaceChildren(...views.map((view) => view.bars));
    views.forEach(drawBars);
    [...samples.querySelectorAll("button")].forEach((button, i) => button.setAttribute("aria-pressed", shown.includes(i)));
    beside.value = shown.length > 1 ? shown[1] : "";
    range.max = last();
    step = Math.min(step, last());
    chosen = null;
    kept = false;
    show();
  };

  const go = (to) => { step = Math.min(Math.max(to, 0), last()); show(); };
  const pause = () => { clearTimeout(timer); timer = null; play.textContent = step < last() ? "Play" : "Replay"; };
  const tick = () => {
    if (step >= last()) { pause(); return; }
    go(step + 1);
    timer = setTimeout(tick, Math.min(700, Math.max(90, 9000 / last())) / Number(speed.value));
  };
  const toggle = () => {
    if (timer) { pause(); return; }
    if (step >= last()) go(0);
    play.textContent = "Pause";
    timer = setTimeout(tick, 250);
  };
  const move = (to) => { if (timer) pause(); go(to); pause(); };
  const change = (indices) => { if (timer) pause(); step = Infinity; openRuns(indices); pause(); };

  const load = (given, at = null) => {
    if (timer) pause();
    data = given;
    samples.querySelectorAll("button").forEach((button) => button.remove());
    data.runs.forEach((run, i) => {
      const button = element("button", "", run.label || String(i + 1));
      button.type = "button";
      button.addEventListener("click", () => change(shown.length > 1 && i !== shown[1] ? [i, shown[1]] : [i]));
      samples.insertBefore(button, samples.querySelector("label"));
    });
    beside.replaceChildren(new Option("nothing", ""), ...data.runs.map((run, i) => new Option(run.label || String(i + 1), i)));
    samples.hidden = data.runs.length < 2;
    step = at ?? Infinity;
    openRuns(data.beside ? [0, 1] : [0]);
    pause();
  };

  // Add a step that has just arrived; the view follows if it was at the end.
  const append = (index, event) => {
    const atEnd = step >= last();
    data.runs[index].steps.push(event);
    range.max = last();
    views.forEach(drawBars);
    if (atEnd && !timer) step = last();
    show();
  };
  const refresh = () => { const at = step; openRuns(shown); go(at); pause(); };

  play.addEventListener("click", toggle);
  find(".back").addEventListener("click", () => move(step - 1));
  find(".next").addEventListener("click", () => move(step + 1));
  range.addEventListener("input", () => move(Number(range.value)));
  beside.addEventListener("change", () => change(beside.value === "" ? [shown[0]] : [shown[0], Number(beside.value)]));
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || /^(SELECT|TEXTAREA|INPUT)$/.test(event.target.tagName) && event.target !== range) return;
    if (!data.runs.length) return;
    const single = (by) => change([(shown[0] + by + data.runs.length) % data.runs.length]);
    const act = {
      " ": event.target.tagName === "BUTTON" ? null : toggle,
      ArrowLeft: () => move(step - 1), ArrowRight: () => move(step + 1), Home: () => move(0), End: () => move(last()),
      ArrowUp: () => single(-1), ArrowDown: () => single(1), Escape: () => { kept = false; chosen = null; show(); },
    }[event.key];
    if (act) { event.preventDefault(); act(); }
  });
  return {load, append, refresh, go: move, toggle, data: () => data, step: () => step};
};
