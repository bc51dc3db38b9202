// Translates texts, titles and placeholders by `window.localization`, {text: translation}.
(() => {
  const table = globalThis.localization ?? {};
  if (!Object.keys(table).length) return;
  const KEPT = new Set(["SCRIPT", "STYLE", "TEXTAREA"]);
  // Names that belong to the user are never translated.
  const NAMES = "#setting_sd_model_checkpoint, #setting_sd_vae, [id$=_styles], .extra-network-cards, .infotext";

  const text = (node) => {
    const found = table[node.textContent.trim()];
    if (found === undefined || KEPT.has(node.parentElement?.nodeName)) return;
    if (node.parentElement.closest(NAMES) && !node.parentElement.closest("[data-testid=block-info]")) return;
    node.textContent = found;
  };
  const attributes = (element) => {
    for (const name of ["title", "placeholder"]) {
      const found = table[element.getAttribute(name)];
      if (found !== undefined) element.setAttribute(name, found);
    }
  };
  const tree = (node) => {
    if (node.nodeType === Node.TEXT_NODE) { text(node); return; }
    if (node.nodeType !== Node.ELEMENT_NODE) return;
    attributes(node);
    node.querySelectorAll("[title], [placeholder]").forEach(attributes);
    const walk = document.createTreeWalker(node, NodeFilter.SHOW_TEXT);
    const nodes = [];
    while (walk.nextNode()) nodes.push(walk.currentNode);
    nodes.forEach(text);
  };
  onUiUpdate((mutations) => mutations.forEach((mutation) => mutation.addedNodes.forEach(tree)));
  onUiLoaded(() => tree(document.body));
  if (table.rtl) document.documentElement.dir = "rtl";
})();
