import { render } from "preact";

import { App } from "./app";
import "./style/tokens.css";
import "./style/base.css";
import "./style/layout.css";
import "./style/parts.css";
import "./style/inputs.css";
import "./style/sound.css";
import "./style/answers.css";
import "./style/tables.css";
import "./style/quality.css";

const root = document.getElementById("app");
if (root) render(<App />, root);
