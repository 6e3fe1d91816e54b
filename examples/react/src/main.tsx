import "@fontsource-variable/bricolage-grotesque/wght.css";
import "@fontsource-variable/martian-mono/wght.css";
import "./style.css";

import { StrictMode } from "react";
import { createRoot } from "react-dom/client";

import { App } from "./App.tsx";

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
