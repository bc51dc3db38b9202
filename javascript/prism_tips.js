// What each field of the panels is for, told where the pointer rests on it; the server says it once.
(() => {
  const TAB = /^script_(txt|img)2img_/;
  const tips = new Map(); // by a field's id without the tab

  const look = () => tips.size && document.querySelectorAll('[id^="script_"][id*="_prism_"]:not([title])').forEach((field) => {
    const tip = tips.get(field.id.replace(TAB, ""));
    if (!tip) return;
    field.title = prismSay(tip);
    if (field.tagName === "BUTTON") field.ariaLabel = field.title; // it shows a sign, no words
  });
  const ask = async () => {
    ["block_merge", "cascade"].forEach((panel) => {
      tips.set(`prism_${panel}_refresh`, prismSay("Look for new files, and for what is loaded now."));
    });
    try {
      const { panels } = await (await fetch("./prism/v1/schema")).json();
      Object.values(panels).forEach(({ title, properties }) => {
        const panel = title.toLowerCase().replaceAll(" ", "_");
        Object.entries(properties).forEach(([name, one]) => tips.set(`${panel}_${name}`, one.description));
      });
    } catch { /* a page without tips is as good otherwise */ }
    look();
  };

  onUiLoaded(ask);
  onAfterUiUpdate(look);
})();
