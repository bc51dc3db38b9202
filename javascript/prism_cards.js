// The panel "Prism Cards" compares its card with the page when it is opened, when somebody turns to it, and when another
// card is offered: the page's values may have moved.
(() => {
  const PANEL = '[id$="_prism_cards_panel"]';
  const seen = new WeakMap(); // what a panel's line said when its card was last compared

  const compare = (panel) => panel.querySelector('[id$="_prism_cards_look"]')?.click();
  const turned = (event) => {
    const panel = event.target.closest?.(PANEL);
    if (panel && event.relatedTarget && !panel.contains(event.relatedTarget)) compare(panel);
  };
  const look = () => document.querySelectorAll(PANEL).forEach((panel) => {
    const line = panel.querySelector(".label-wrap");
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
