"""The npm package as applications of every kind install it: from its tarball, with what else npm has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.browser.next_app import node, npm, packed

pytestmark = pytest.mark.asyncio(loop_scope="session")

TOTAL: dict[str, Any] = {"user_id": "ann", "version": 1, "credits": 42}

JEST = """
const React = require("react");
const { act } = React;
const { createRoot } = require("react-dom/client");
const { createCreditsClient } = require("creditsd");
const { useRealtimeCredits } = require("creditsd/react");
const { createCreditsStore } = require("creditsd/zustand");

globalThis.IS_REACT_ACT_ENVIRONMENT = true;

test("the credits are shown", async () => {
  const fetch = async () => ({ ok: true, json: async () => ({ success: true, data: TOTAL }) });
  const client = createCreditsClient({ url: "https://x.example", getToken: () => "t", fetch, stream: false });
  const useStore = createCreditsStore(client);
  const App = () => {
    const { credits } = useRealtimeCredits({ client });
    const stored = useStore((state) => state.getCreatorCredits);
    return React.createElement("p", null, `${credits?.credits} ${stored?.credits}`);
  };
  const box = document.createElement("div");
  const root = createRoot(box);
  await act(async () => root.render(React.createElement(App)));
  await act(async () => void await client.refetch());
  expect(box.textContent).toBe("42 42");
  await act(async () => root.unmount());
  client.close();
});
"""

PAGE = """
import { createRoot } from "react-dom/client";
import { createCreditsClient } from "creditsd";
import { useCredits, useCreditsHistory, useRealtimeCredits } from "creditsd/react";
import { createCreditsStore } from "creditsd/zustand";

const client = createCreditsClient({ url: "https://credits.example.com", getToken: () => "t" });
const useStore = createCreditsStore(client);

function Balance() {
  const { credits, error, isSubscribed } = useRealtimeCredits({ onError: (text: string) => console.error(text) });
  const said: string | null = error;
  const number: number | null = useCredits((state) => state.credits);
  const stored = useStore((state) => state.getCreatorCredits?.credits);
  return <p data-live={isSubscribed}>{credits?.credits} {said} {number} {useCreditsHistory().steps.length} {stored}</p>;
}

createRoot(document.getElementById("root")!).render(<Balance />);
"""

STRICT = {
    "target": "ES2022",
    "lib": ["ES2022", "DOM", "DOM.Iterable"],
    "module": "ESNext",
    "moduleResolution": "bundler",
    "jsx": "react-jsx",
    "strict": True,
    "noEmit": True,
    "verbatimModuleSyntax": True,
    "exactOptionalPropertyTypes": True,
}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def tarball(tmp_path_factory: pytest.TempPathFactory) -> str:
    node()
    return str(await packed(tmp_path_factory.mktemp("pack")))


async def installed(directory: Path, *packages: str, only_resolved: bool = False, **manifest: Any) -> None:
    """Install packages as npm does for whoever wants to hear of every conflict."""
    (directory / "package.json").write_text(json.dumps({"name": "app", "private": True, **manifest}))
    options = ["--silent", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund", "--strict-peer-deps"]
    await npm("install", *options, *(["--package-lock-only"] if only_resolved else []), *packages, cwd=directory)


# Zustand 4.4.0, the oldest we take, takes no React 19 itself.
@pytest.mark.parametrize(("react", "zustand"), [("18", "4.4.0"), ("18", "4"), ("18", "5"), ("19", "4"), ("19", "5")])
async def test_react_and_zustand_of_both_ages_install_without_a_conflict(
    tarball: str, tmp_path: Path, react: str, zustand: str
) -> None:
    peers = [f"react@{react}", f"react-dom@{react}", f"zustand@{zustand}"]
    await installed(tmp_path, tarball, *peers, only_resolved=True)


async def test_nothing_comes_with_it_that_was_not_asked_for(tarball: str, tmp_path: Path) -> None:
    await installed(tmp_path, tarball)
    assert [each.name for each in (tmp_path / "node_modules").iterdir() if each.name[0] != "."] == ["creditsd"]


async def test_jest_requires_it(tarball: str, tmp_path: Path) -> None:
    tools = ["jest@30", "jest-environment-jsdom@30", "react@19", "react-dom@19", "zustand@5"]
    await installed(tmp_path, tarball, *tools, jest={"testEnvironment": "jsdom"}, scripts={"test": "jest"})
    (tmp_path / "credits.test.js").write_text(f"const TOTAL = {json.dumps(TOTAL)};\n{JEST}")
    assert "1 passed" in await npm("test", "--silent", cwd=tmp_path)


async def test_a_strict_vite_application_compiles_and_builds(tarball: str, tmp_path: Path) -> None:
    tools = [
        "vite@8",
        "typescript@5",
        "@types/react@19",
        "@types/react-dom@19",
        "react@19",
        "react-dom@19",
        "zustand@5",
    ]
    scripts = {"build": "tsc && vite build"}
    await installed(tmp_path, tarball, *tools, type="module", scripts=scripts)
    (tmp_path / "index.html").write_text('<div id="root"></div><script type="module" src="/main.tsx"></script>')
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": STRICT, "include": ["main.tsx"]}))
    (tmp_path / "main.tsx").write_text(PAGE)
    assert "built in" in await npm("run", "--silent", "build", cwd=tmp_path)
