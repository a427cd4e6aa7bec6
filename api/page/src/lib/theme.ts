// Light, dark, or as the system says. `public/theme.js` does the same before the first paint.
import { useEffect, useState } from "preact/hooks";

export type Choice = "system" | "light" | "dark";
export type Theme = "light" | "dark";

const STORED = "voxdex.theme";
const system = window.matchMedia("(prefers-color-scheme: dark)");

function read(): Choice {
  const stored = localStorage.getItem(STORED);
  return stored === "light" || stored === "dark" ? stored : "system";
}

function shown(choice: Choice): Theme {
  if (choice === "system") return system.matches ? "dark" : "light";
  return choice;
}

/** The choice, and how to make another one. */
export function useThemeChoice(): [Choice, (choice: Choice) => void] {
  const [choice, setChoice] = useState(read);
  useEffect(() => {
    const follow = () => {
      document.documentElement.dataset.theme = shown(choice);
    };
    if (choice === "system") localStorage.removeItem(STORED);
    else localStorage.setItem(STORED, choice);
    follow();
    system.addEventListener("change", follow);
    return () => system.removeEventListener("change", follow);
  }, [choice]);
  return [choice, setChoice];
}

/** The theme that is shown: for what is drawn rather than styled, which has to be drawn again. */
export function useTheme(): Theme {
  const [theme, setTheme] = useState<Theme>(current);
  useEffect(() => {
    const watch = new MutationObserver(() => setTheme(current()));
    watch.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    return () => watch.disconnect();
  }, []);
  return theme;
}

function current(): Theme {
  return document.documentElement.dataset.theme === "dark" ? "dark" : "light";
}

/** A color of the design, as canvases need it. */
export function color(token: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${token}`).trim();
}

const VOICES = 8;

/** The token of a voice's color; numbers beyond the last begin again. */
export function voiceToken(voice: number): string {
  return `voice-${voice % VOICES}`;
}
