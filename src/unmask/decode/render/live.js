"use strict";
// The page of the service: ask for a decode, and show its steps as they arrive.
(() => {
  const {stops} = JSON.parse(document.getElementById("data").textContent);
  const find = (selector) => document.querySelector(selector);
  const form = find(".ask"), text = find("#text"), problem = find(".problem"), root = document.getElementById("player");
  const field = (name) => find(`.${name}`);
  let mask = "[MASK]", running = null, asked = null;

  const player = createPlayer(root, {stops, onUse: (chosen, token) => pin(chosen, token)});
  shareWith(root, player, stops, () => `${location.href.split("#")[0]}#q=${encode(asked)}`);

  const encode = (value) => {
    const bytes = new TextEncoder().encode(JSON.stringify(value));
    return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  };
  const decode = (link) => {
    const bytes = Uint8Array.from(atob(link.replaceAll("-", "+").replaceAll("_", "/")), (character) => character.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes));
  };
  const headers = () => {
    const key = field("key").value || sessionStorage.getItem("unmask-key");
    return {"Content-Type": "application/json", ...(key ? {Authorization: `Bearer ${key}`} : {})};
  };
  const messageOf = async (response) => {
    if (response.status === 401) {
      find(".key-field").hidden = false;
      return "This service asks for an API key: enter it in the field above.";
    }
    const body = await response.json().catch(() => null);
    return body?.error?.message ?? `The service answered with status ${response.status}.`;
  };

  // Yield the server-sent events of a response as [name, data].
  async function* eventsOf(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const {value, done} = await reader.read();
      if (done) return;
      const parts = (rest + value).split(/\r?\n\r?\n/);
      rest = parts.pop();
      for (const part of parts) {
        const name = /^event: ?(.*)$/m.exec(part)?.[1], lines = [...part.matchAll(/^data: ?(.*)$/gm)].map((found) => found[1]);
        if (name && lines.length) yield [name, JSON.parse(lines.join("\n"))];
      }
    }
  }

  const request = () => {
    const options = {};
    for (const name of ["steps", "temperature", "threshold", "seed"]) {
      if (field(name).value !== "") options[name] = Number(field(name).value);
    }
    return {text: text.value, orders: [field("order").value, field("second").value].filter((order) => order), options};
  };

  // Decode `question` with each of its orders; the runs share the player's time line.
  const run = async (question) => {
    running?.abort();
    const stop = new AbortController(), mine = {runs: [], waiting: question.orders.map(() => [])};
    running = stop;
    asked = question;
    problem.textContent = "";
    find(".stop").disabled = false;
    find(".run").textContent = "Filling…";
    let loaded = false;
    const begin = () => {
      if (mine.runs.filter(Boolean).length < question.orders.length) return;
      root.hidden = false;
      loaded = true;
      player.load({version: 1, mask_token: mask, beside: mine.runs.length > 1, runs: mine.runs}, 0);
      mine.waiting.forEach((events, i) => events.forEach((event) => player.append(i, event)));
    };
    const follow = async (order, index) => {
      const {orders: _, options, pins = [], ...content} = question;
      const body = JSON.stringify({...content, ...options, order, stream: true, top_k: 5});
      const response = await fetch("/v1/fill", {method: "POST", headers: headers(), body, signal: stop.signal});
      if (!response.ok) throw new Error(await messageOf(response));
      if (field("key").value) sessionStorage.setItem("unmask-key", field("key").value);
      for await (const [name, event] of eventsOf(response)) {
        if (name === "error") throw new Error(event.error.message);
        if (name === "start") {
          const tokens = event.tokens.map((token, i) => ({...token, text: token.given ? token.text : null, pinned: pins.includes(i)}));
          mine.runs[index] = {label: order, tokens, steps: [], text: ""};
          begin();
        } else if (name === "step") {
          if (loaded) player.append(index, event);
          else mine.waiting[index].push(event);
        } else if (name === "done") finish(mine.runs[index], event);
      }
    };
    const finish = (own, event) => {
      own.text = event.text;
      own.seconds = event.seconds;
      own.passes = event.passes;
      own.label = `${own.label} · ${event.passes} ${event.passes === 1 ? "pass" : "passes"}`;
      const final = new Map(event.tokens.map((token, i) => [i, token]));
      for (const step of own.steps) {
        for (const token of step.unmasked) if (final.get(token.position)?.id === token.id) token.text = final.get(token.position).text;
      }
      own.tokens.forEach((token, i) => { if (!token.given) token.text = final.get(i)?.text ?? token.text; });
      if (loaded) player.refresh();
    };
    try {
      await Promise.all(question.orders.map(follow));
      history.replaceState(null, "", `#q=${encode(question)}`);
    } catch (error) {
      stop.abort();
      if (running === stop && error.name !== "AbortError") problem.textContent = error.message;
    } finally {
      if (running === stop) {
        running = null;
        find(".stop").disabled = true;
        find(".run").textContent = "Fill";
      }
    }
  };

  // Keep a token at its position and decode the rest again, with the same orders.
  const pin = ({run: index, position}, token) => {
    const tokens = player.data().runs[index].tokens, {text: _, ...rest} = asked;
    const ids = tokens.map((own, i) => (i === position ? token.id : own.given ? own.id : null));
    run({...rest, ids, pins: [...(asked.pins ?? []), position]});
  };

  const insertBlank = () => {
    const length = field("length").value.trim(), blank = length ? mask.replace(/(.)$/, `:${length}$1`) : mask;
    text.focus();
    text.setRangeText(blank, text.selectionStart, text.selectionEnd, "end");
  };
  const submit = () => {
    if (text.value.trim()) run(request());
    else problem.textContent = `There is nothing to fill: type a text with ${mask} where words are missing.`;
  };

  form.addEventListener("submit", (event) => { event.preventDefault(); submit(); });
  find(".insert").addEventListener("click", insertBlank);
  find(".stop").addEventListener("click", () => running?.abort());
  text.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey)) return;
    if (event.key.toLowerCase() === "b") { event.preventDefault(); insertBlank(); }
    if (event.key === "Enter") { event.preventDefault(); submit(); }
  });

  const begin = async () => {
    const response = await fetch("/v1/models", {headers: headers()});
    if (!response.ok) { problem.textContent = await messageOf(response); return; }
    const model = (await response.json()).data[0], own = model.unmask;
    mask = own.mask_token ?? mask;
    find(".subtitle").textContent = `${model.id} · ${own.objective ?? "masked language model"} · up to ${own.max_length} tokens`;
    find(".example-length").textContent = mask.replace(/(.)$/, ":3$1");
    find(".example-range").textContent = mask.replace(/(.)$/, ":2-6$1");
    field("order").replaceChildren(...own.orders.map((order) => new Option(order, order, false, order === own.defaults?.order)));
    field("second").replaceChildren(new Option("nothing", ""), ...own.orders.map((order) => new Option(order, order)));
    text.placeholder = `Paste a text and put ${mask} where words are missing.`;
    const link = /^#q=([\w-]+)$/.exec(location.hash);
    if (!link) return;
    try {
      const question = decode(link[1]);
      text.value = question.text ?? "";
      [field("order").value, field("second").value] = [question.orders[0], question.orders[1] ?? ""];
      for (const [name, value] of Object.entries(question.options ?? {})) if (field(name)) field(name).value = value;
      await run(question);
    } catch {
      problem.textContent = "The link of this page is damaged: the text in it cannot be read.";
    }
  };
  find(".key").addEventListener("change", () => { problem.textContent = ""; if (!hasOrders()) begin(); });
  const hasOrders = () => field("order").options.length;
  begin();
})();
