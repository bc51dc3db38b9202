// A text of ours in the page's language, which localizations/ has: {name} in it stands for a value. What others made, and
// errors, stay as they are.
globalThis.prismSay = (text, values = {}) =>
  (globalThis.localization?.[text] ?? text).replace(/\{(\w+)\}/g, (mark, name) => values[name] ?? mark);

// The lines that open a part of a panel, by the keyboard too: those of gradio 3 know the mouse alone.
onAfterUiUpdate(() => {
  const lines = '[id*="_prism_"]:not(.input-accordion) > .label-wrap:not(button, [tabindex])';
  document.querySelectorAll(lines).forEach((line) => {
    const tell = () => { line.ariaExpanded = String(line.classList.contains("open")); };
    line.tabIndex = 0;
    line.role = "button";
    line.addEventListener("click", () => setTimeout(tell));
    line.addEventListener("keydown", (event) => {
      if (event.target !== line || !["Enter", " "].includes(event.key)) return;
      event.preventDefault();
      line.click();
    });
    tell();
  });
});

// gradio 6 hears of a text from keys that write a letter alone: not of one that is deleted, pasted, or written by a script.
document.addEventListener("input", ({ target, inputType }) => {
  if (inputType === "insertText" || !target.matches?.('[id*="_prism_"] [data-testid="textbox"]')) return;
  target.dispatchEvent(new KeyboardEvent("keypress", { bubbles: true }));
});

// Names for screen readers where gradio 3 has none, beside its sliders, and on the switches of A1111's panels.
onAfterUiUpdate(() => document.querySelectorAll('[id*="_prism_"] input:not([aria-label])').forEach((input) => {
  if (input.labels?.length) return;
  const field = input.closest('[id*="_prism_"]:not(input)');
  const name = field.querySelector('.label-wrap > span, [data-testid="block-info"]')?.textContent.trim();
  if (name) input.ariaLabel = name;
}));
