"use strict";
// Copy a decode as JSON or as a link, and save it as a page of its own.
const shareWith = (root, player, stops, linkOf) => {
  const said = root.querySelector(".share output");
  const copy = async (text, what) => {
    try {
      await navigator.clipboard.writeText(text);
      said.textContent = `${what} copied.`;
    } catch {
      said.textContent = "The browser did not allow copying.";
    }
  };
  root.querySelector(".copy-json").addEventListener("click", () => copy(JSON.stringify(player.data(), null, 1), "JSON"));
  root.querySelector(".copy-link").addEventListener("click", () => copy(linkOf(), "Link"));
  root.querySelector(".save-page").addEventListener("click", () => {
    const page = document.documentElement.cloneNode(true), keep = (id) => document.getElementById(id).textContent;
    page.querySelector(".ask")?.remove();
    page.querySelector("#player").removeAttribute("hidden");
    for (const filled of [".panes", ".timelines", ".details", ".share output"]) page.querySelector(filled).replaceChildren();
    page.querySelectorAll(".samples button").forEach((button) => button.remove());
    for (const script of page.querySelectorAll("script")) script.remove();
    const add = (text, type, id) => {
      const script = document.createElement("script");
      if (type) script.type = type;
      if (id) script.id = id;
      script.textContent = text;
      page.querySelector("body").append(script);
    };
    const content = JSON.stringify({...player.data(), stops}).replaceAll("<", "\\u003c");
    add(content, "application/json", "data");
    add(keep("player-code"), "", "player-code");
    add(keep("share-code"), "", "share-code");
    add(keep("recorded-code"));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([`<!DOCTYPE html>\n${page.outerHTML}`], {type: "text/html"}));
    link.download = "unmasking.html";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    said.textContent = "Saved as unmasking.html.";
  });
};
