// Added to OHIF's app-config.js by scripts/monai_label/environment.py: the mode MONAI Label with tools to edit and store.
//
// The mode that MONAI Label 0.8.5 ships (OHIF 3.10.0-beta.5) has neither a brush nor a list of segments, nothing that
// saves, and a panel that calls port 8000. This one, of the same id, takes its place. It is OHIF's mode Segmentation
// with the panel of MONAI Label on the right.
const SEGMENTS = '@ohif/extension-cornerstone.panelModule.panelSegmentationWithTools';
const MONAI_LABEL = '@ohif/extension-monai-label.panelModule.monailabel';

window.config.modes.push({
  id: '@ohif/mode-monai-label',
  modeFactory: async ({ loadModules }) => {
    const [segmentation] = await loadModules(['@ohif/mode-segmentation']);
    const mode = segmentation.modeFactory({ modeConfiguration: {} });
    const layoutTemplate = (given) => {
      const layout = mode.routes[0].layoutTemplate(given);
      layout.props.leftPanels.push(SEGMENTS);
      layout.props.rightPanels = [MONAI_LABEL];
      return layout;
    };
    return {
      ...mode,
      id: '@ohif/mode-monai-label',
      routeName: 'monai-label',
      displayName: 'MONAI Label',
      hangingProtocol: 'mpr',
      extensions: { ...mode.extensions, '@ohif/extension-monai-label': '^3.0.0' },
      routes: [{ path: 'monai-label', layoutTemplate }],
      onModeEnter: (managers) => {
        mode.onModeEnter(managers);
        // Two commands of this OHIF have the name storeSegmentation; the one that runs is not told where to store.
        const [dataSource] = managers.extensionManager.getActiveDataSource();
        managers.commandsManager.getCommand('storeSegmentation', 'SEGMENTATION').options = { dataSource };
      },
    };
  },
});

// The panel calls the server that this page came from.
document.cookie = `MONAILABEL_SERVER_URL=${escape(`${window.location.origin}/`)}; path=/`;
