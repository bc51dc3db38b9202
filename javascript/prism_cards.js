// The panel "Prism Cards" compares its card with the page when it is opened, when somebody turns to it, and when another
// card is offered: the page's values may have moved. It also says the panel's line in the page's language.
(() => {
  const PANEL = '[id$="_prism_cards_panel"]';
  const seen = new WeakMap(); // what a panel's line said when its card was last compared

  // The panel's line comes whole from the server, in English.
  const inWords = (told) => told
    .replace(/^(.+) fits this model$/, (_, card) => prismSay("{card} fits this model", { card }))
    .replace(/^pictures follow (.+)$/, (_, card) => prismSay("pictures follow {card}", { card }))
    .replace(/^no card to follow is known$/, prismSay("no card to follow is known"));
  const speak = (line) => {
    const text = line?.querySelector("span")?.firstChild;
    const [title, ...told] = text?.data?.split(" · ") ?? [];
    const said = [title, inWords(told.join(" · "))].join(" · ");
    if (told.length && text.data !== said) text.data = said;
  };

  const compare = (panel) => panel.querySelector('[id$="_prism_cards_look"]')?.click();
  const turned = (event) => {
    const panel = event.target.closest?.(PANEL);
    if (panel && event.relatedTarget && !panel.contains(event.relatedTarget)) compare(panel);
  };
  const look = () => document.querySelectorAll(PANEL).forEach((panel) => {
    const line = panel.querySelector(".label-wrap");
    speak(line);
    const open = line?.classList.contains("open") && panel.querySelector('[id$="_prism_cards_look"]');
    const said = open ? line.textContent : null;
    if (seen.get(panel) === said) return;
    seen.set(panel, said);
    if (open) compare(panel);
  });

  ["pointerover", "focusin"].forEach((name) => document.addEventListener(name, turned));
  document.addEventListener("click", () => setTimeout(look)); // gradio 3 opens a panel without a word to the page
  onAfterUiUpdate(look);
})();
